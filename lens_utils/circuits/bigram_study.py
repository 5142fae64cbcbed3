"""The direct path of one model in full: word by word, against a corpus, and its embeddings as a map."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lens_utils import hook_names
from lens_utils.circuits.bigram_words import Listed, listed_words, nearest_embeddings
from lens_utils.circuits.bigrams import BigramCounts, BigramFit, compare_bigrams, entries_at, unigram_fit
from lens_utils.circuits.texts import is_shipped
from lens_utils.circuits.token_circuits import TokenCircuit, direct_path, log_probabilities
from lens_utils.circuits.weights import check_circuits, token_vectors
from lens_utils.circuits.words import chosen_words, classes_of
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.null_models import shuffled_weights
from lens_utils.prompts import TextUnit, read_texts, tokenize_corpus
from lens_utils.statistics import Interval, bootstrap_interval
from lens_utils.zoo.corpus import causal_rows

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Corpus:
    """Counted bigrams and what they were counted in."""

    counts: BigramCounts
    source: str


@dataclass(frozen=True)
class Compared:
    """One prediction of the next token against the counted ones."""

    name: str
    fit: BigramFit
    kl: Interval
    """Mean over tokens weighted by frequency; interval over kinds of token."""


@dataclass(frozen=True)
class BigramStudy:
    """Everything the tables and figures show; tokens are ids, named by `strings`."""

    strings: tuple[str, ...]
    follows: tuple[Listed, ...]
    precedes: tuple[Listed, ...]
    neighbours: dict[int, tuple[Int[Tensor, " rank"], Float[Tensor, " rank"]]]
    """For each word the tokens of most similar embedding, with their cosine (embeddings centred)."""
    corpus: Corpus | None
    compared: tuple[Compared, ...]
    """The model first, then the nulls; empty without a corpus."""
    pairs: Float64[Tensor, "pair 2"]
    """Predicted and counted log-probability of the most frequent pairs."""
    pair_tokens: tuple[tuple[int, int], ...]
    mapped: tuple[int, ...]
    classes: tuple[str, ...]
    embeddings: dict[str, Float[Tensor, "token d_model"]]
    notes: tuple[str, ...]
    identities: tuple[Identity, ...]
    hooks: tuple[str, ...]


def count_corpus(model: HookedTransformer, *, corpus: str, unit: TextUnit, stories: int) -> Corpus | None:
    """Bigrams of a file, or of the stories a shipped model was trained on; None for other models without a file.

    Raises `ValueError` for a corpus that cannot be read, and for a model that has no token-space circuit.
    """
    check_circuits(model)
    if corpus:
        texts = tokenize_corpus(model, read_texts(Path(corpus), unit=unit))
        return Corpus(BigramCounts.of((text.tokens for text in texts), model.cfg.d_vocab), Path(corpus).name)
    if not is_shipped(model):
        return None
    rows = causal_rows(model.tokenizer, stories, 0, n_ctx=model.cfg.n_ctx)
    return Corpus(BigramCounts.of(rows, model.cfg.d_vocab), f"{stories} training stories")


def study_bigrams(
    model: HookedTransformer, *, words: Sequence[str], corpus: Corpus | None, top: int, mapped: int, seed: int
) -> BigramStudy:
    """Everything about a model's direct path; words that are no single token are refused, default ones left out."""
    check_circuits(model)
    tokens, left_out = chosen_words(model, words)
    counts = None if corpus is None else corpus.counts
    circuit = direct_path(model)
    predicted = log_probabilities(circuit)
    follows, precedes = listed_words(circuit, tokens, counts, top=top)
    chosen = _mapped(model, counts, mapped)
    pairs, pair_tokens = _frequent_pairs(predicted, counts)
    identities, hooks = _identities(model, circuit)
    at = torch.tensor(chosen, device=model.device)
    return BigramStudy(
        strings=tuple(model.to_str_tokens(list(range(model.cfg.d_vocab)))),
        follows=follows,
        precedes=precedes,
        neighbours=nearest_embeddings(model, tokens, top=top),
        corpus=corpus,
        compared=() if counts is None else _compared(model, predicted, counts, seed),
        pairs=pairs,
        pair_tokens=pair_tokens,
        mapped=chosen,
        classes=classes_of(model, chosen),
        embeddings={"W_E": token_vectors(model)[at].cpu(), "W_U": model.W_U.detach().T[at].cpu()},
        notes=_notes(model, left_out),
        identities=identities,
        hooks=hooks,
    )


def _notes(model: HookedTransformer, left_out: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if model.cfg.n_layers:
        notes.append("Only the direct path of the model: its layers write nothing, positions are left out.")
    if model.cfg.normalization_type is not None:
        notes.append("LayerNorm is folded; each embedding is divided by its own scale.")
    if left_out:
        notes.append(f"No single tokens here, so not listed: {', '.join(left_out)}.")
    return tuple(notes)


def _mapped(model: HookedTransformer, counts: BigramCounts | None, size: int) -> tuple[int, ...]:
    special = set(getattr(model.tokenizer, "all_special_ids", ()))
    order: Iterable[int] = range(model.cfg.d_vocab)
    if counts is not None:
        frequency = counts.frequency + counts.follows
        order = [token for token in frequency.argsort(descending=True, stable=True).tolist() if frequency[token] > 0]
    return tuple([token for token in order if token not in special][:size])


def _frequent_pairs(
    predicted: TokenCircuit, counts: BigramCounts | None
) -> tuple[Float64[Tensor, "pair 2"], tuple[tuple[int, int], ...]]:
    """The 1500 most frequent pairs of the corpus."""
    if counts is None:
        return torch.zeros(0, 2, dtype=torch.float64), ()
    order = counts.counts.argsort(descending=True, stable=True)[:1500]
    some = BigramCounts(counts.previous[order], counts.following[order], counts.counts[order], counts.vocab)
    values = torch.stack([entries_at(predicted, some), counts.log_probabilities[order]], dim=1)
    return values, tuple(zip(some.previous.tolist(), some.following.tolist(), strict=True))


def _compared(
    model: HookedTransformer, predicted: TokenCircuit, counts: BigramCounts, seed: int
) -> tuple[Compared, ...]:
    null = log_probabilities(direct_path(shuffled_weights(model, seed=seed)))
    fits = {
        "direct path": compare_bigrams(predicted, counts),
        "null: unigram frequencies": unigram_fit(counts),
        "null: shuffled weights": compare_bigrams(null, counts),
    }
    return tuple(Compared(name, fit, _interval(fit, counts, seed)) for name, fit in fits.items())


def _interval(fit: BigramFit, counts: BigramCounts, seed: int) -> Interval:
    seen = counts.frequency > 0
    kl, weight = fit.kl[seen].numpy(), counts.frequency[seen].numpy()

    def weighted(units: np.ndarray, axis: int = -1) -> Any:
        chosen = units.astype(np.int64)
        return (kl[chosen] * weight[chosen]).sum(axis=axis) / weight[chosen].sum(axis=axis)

    units = torch.arange(len(kl), dtype=torch.float64)
    return bootstrap_interval(units, seed=seed, statistic=weighted, n_resamples=1000)


def _identities(model: HookedTransformer, circuit: TokenCircuit) -> tuple[tuple[Identity, ...], tuple[str, ...]]:
    """Rows of the circuit against the model's own unembedding of an embedding, and against the whole 0-layer model."""
    count = min(model.cfg.n_ctx, model.cfg.d_vocab, 64)
    tokens = torch.linspace(0, model.cfg.d_vocab - 1, count).long().unsqueeze(0).to(model.device)
    with torch.inference_mode():
        whole, cache = model.run_with_cache(tokens, names_filter=[hook_names.EMBED])
        expected = model(cache[hook_names.EMBED], start_at_layer=model.cfg.n_layers)[0]
        rows = circuit.left[tokens[0]] @ circuit.right
        error = float((rows - expected).abs().max())
    checks = [Identity("direct path", "W_E W_U + b_U = unembedding of the embedding alone (nats)", error, TOLERANCE)]
    if not model.cfg.n_layers and model.cfg.positional_embedding_type == "none":
        error = float((rows - whole[0]).abs().max())
        checks.append(Identity("whole model", "W_E W_U + b_U = the model's logits (nats)", error, TOLERANCE))
    return tuple(checks), (hook_names.EMBED,)
