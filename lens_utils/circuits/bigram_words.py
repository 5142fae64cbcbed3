"""Rows and columns of the bigram table word by word, and the nearest embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lens_utils.circuits.bigrams import BigramCounts
from lens_utils.circuits.token_circuits import TokenCircuit, log_probabilities, row_extremes
from lens_utils.circuits.weights import token_vectors
from lens_utils.hooked_transformer import HookedTransformer


@dataclass(frozen=True)
class Listed:
    """Tokens listed for one word, best first."""

    word: int
    tokens: Int[Tensor, " rank"]
    logits: Float[Tensor, " rank"]
    log_probabilities: Float[Tensor, " rank"]
    counts: Float64[Tensor, " rank"]
    """How often the pair occurs in the corpus; nan without one."""
    shares: Float64[Tensor, " rank"]
    """The counted probability of the pair; nan without a corpus or where the first token never occurs."""


def listed_words(
    circuit: TokenCircuit, words: Sequence[int], counts: BigramCounts | None, *, top: int
) -> tuple[tuple[Listed, ...], tuple[Listed, ...]]:
    """The most probable next tokens of each word, and the tokens before which the word is most probable.

    Both by log-probability; `circuit` holds the logits of the bigram table.
    """
    predicted = log_probabilities(circuit)
    rows = torch.tensor(list(words), device=circuit.left.device)
    found = []
    for first, source in ((True, predicted), (False, predicted.transposed)):
        best = row_extremes(source.of_rows(rows), top)
        found.append(
            tuple(
                _listed(circuit, word, others, values, counts, first=first)
                for word, others, values in zip(words, best.columns, best.values, strict=True)
            )
        )
    return found[0], found[1]


def _listed(
    circuit: TokenCircuit, word: int, others: Tensor, values: Tensor, counts: BigramCounts | None, *, first: bool
) -> Listed:
    """`first`: the word is the first of each pair, the listed tokens follow it; else they precede it."""
    same = torch.full_like(others, word)
    previous, following = (same, others) if first else (others, same)
    times = torch.full((len(others),), torch.nan, dtype=torch.float64)
    shares = times
    if counts is not None:
        times, shares = _counted_pairs(counts, previous.cpu(), following.cpu())
    return Listed(word, others.cpu(), circuit.at(previous, following).cpu(), values.cpu(), times, shares)


def _counted_pairs(counts: BigramCounts, previous: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
    codes = counts.previous * counts.vocab + counts.following
    wanted = previous * counts.vocab + following
    place = torch.searchsorted(codes, wanted).clamp(max=len(codes) - 1)
    found = torch.where(codes[place] == wanted, counts.counts[place], 0.0)
    frequency = counts.frequency[previous]
    return found, found / torch.where(frequency > 0, frequency, torch.nan)


def nearest_embeddings(
    model: HookedTransformer, words: Sequence[int], *, top: int
) -> dict[int, tuple[Int[Tensor, " rank"], Float[Tensor, " rank"]]]:
    """For each word the tokens of most similar embedding, with their cosine; the mean embedding is taken off first."""
    vectors = token_vectors(model)
    centre = vectors - vectors.mean(0)
    unit = centre / centre.norm(dim=1, keepdim=True).clamp(min=torch.finfo(centre.dtype).tiny)
    rows = torch.tensor(list(words), device=unit.device)
    near = row_extremes(TokenCircuit(unit[rows], unit.T), top + 1)
    found = {}
    for word, tokens, cosines in zip(words, near.columns.cpu(), near.values.cpu(), strict=True):
        other = tokens != word
        found[word] = tokens[other][:top], cosines[other][:top]
    return found
