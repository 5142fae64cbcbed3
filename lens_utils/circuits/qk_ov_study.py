"""The QK and OV circuits of every head of a model: over tokens and positions, as copying, summed to the logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lens_utils import hook_names
from lens_utils.circuits.copying import WeightCopying, weight_copying
from lens_utils.circuits.copying_text import TextCopying, text_copying
from lens_utils.circuits.path_study import PathStudy, ScoreSources, study_paths, study_sources
from lens_utils.circuits.positional import OffsetPreference, has_positions, offset_preference
from lens_utils.circuits.texts import Texts
from lens_utils.circuits.token_circuits import (
    Entries,
    RowEntries,
    TokenCircuit,
    extreme_entries,
    ov_circuit,
    qk_circuit,
    row_extremes,
)
from lens_utils.circuits.weights import Scales, check_attention, typical_scales
from lens_utils.circuits.words import chosen_words
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.progress import track
from lens_utils.statistics import average_ranks, benjamini_hochberg, p_value

MEASURES = ("eigenvalue_score", "own_top5", "own_rank", "text_logit")
"""The four notions of copying that are tested and compared; own_rank counts from the top, so less is more."""


@dataclass(frozen=True)
class HeadTokens:
    """The extreme entries of one head's two circuits."""

    layer: int
    head: int
    qk: tuple[Entries, Entries]
    """Largest and smallest scores (query, key)."""
    ov: tuple[Entries, Entries]
    """Largest and smallest logits (source, token)."""
    qk_words: RowEntries
    """For each word as query, the keys of highest score."""
    ov_words: RowEntries
    """For each word as source, the tokens raised most."""
    qk_matrix: Float[Tensor, "word word"]
    ov_matrix: Float[Tensor, "word word"]


@dataclass(frozen=True)
class CopyingStudy:
    """The notions of copying over heads, against random heads."""

    weights: WeightCopying
    text: TextCopying
    q: dict[str, Float64[Tensor, " head"]]
    """p against random heads of the same norms, one-sided, Benjamini-Hochberg over heads; of each of MEASURES."""
    agreement: Float64[Tensor, "measure measure"]
    """Spearman correlation over heads, the sign of own_rank turned; nan with fewer than 3 heads or no spread."""

    @property
    def values(self) -> dict[str, Float64[Tensor, " head"]]:
        """Every notion, on text included."""
        return self.weights.notions | {"text_logit": self.text.mean}

    @property
    def beyond_null(self) -> Int[Tensor, " head"]:
        """How many of the four notions tell a head from random ones (q <= 0.05)."""
        return torch.stack([(self.q[name] <= 0.05).long() for name in MEASURES]).sum(0)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to list and to test."""

    top: int
    nulls: int
    path_texts: int
    seed: int


@dataclass(frozen=True)
class QkOvStudy:
    """Everything the tables and figures show."""

    strings: tuple[str, ...]
    words: tuple[int, ...]
    n_layers: int
    n_heads: int
    texts: Texts
    scales: Scales
    heads: tuple[HeadTokens, ...]
    copying: CopyingStudy
    offsets: tuple[OffsetPreference, ...]
    """By layer; none for a model without position embeddings."""
    paths: PathStudy | None
    sources: tuple[ScoreSources, ...]
    """Of scores; none where there are MLPs."""
    notes: tuple[str, ...]
    identities: tuple[Identity, ...]
    hooks: tuple[str, ...]
    seed: int


def study_qk_ov(model: HookedTransformer, texts: Texts, words: Sequence[str], plan: Plan) -> QkOvStudy:
    """Read every head of a pre-norm (folded) or norm-free model; paths only where there is no MLP."""
    check_attention(model)
    tokens, left_out = chosen_words(model, words)
    scales = typical_scales(model, texts.texts)
    notes = [scales.statement]
    if left_out:
        notes.append(f"No single tokens here, so not listed: {', '.join(left_out)}.")
    paths, sources, checks = None, (), ()
    if model.cfg.attn_only:
        paths = study_paths(model, texts.texts[: plan.path_texts])
        sources, checks = study_sources(model, texts.texts[: plan.path_texts])
    else:
        notes.append("No sum over paths: the MLPs are not linear, so paths through heads do not make up the logits.")
    cfg, rows = model.cfg, torch.tensor(tokens, device=model.device)
    pairs = [(layer, head) for layer in range(cfg.n_layers) for head in range(cfg.n_heads)]
    heads = tuple(head_tokens(model, *pair, rows, scales=scales, top=plan.top) for pair in track(pairs, "heads"))
    if cfg.n_layers > 1:
        notes.append("In layers after the first, circuits read the embedding alone, not what earlier heads write.")
    offsets: tuple[OffsetPreference, ...] = ()
    if has_positions(model):
        layers = range(cfg.n_layers)
        offsets = tuple(offset_preference(model, n, texts.texts, scale=scales.before[n]) for n in layers)
    return QkOvStudy(
        tuple(model.to_str_tokens(list(range(cfg.d_vocab)))),
        tokens,
        cfg.n_layers,
        cfg.n_heads,
        texts,
        scales,
        heads,
        study_copying(model, texts, scales, n_null=plan.nulls, seed=plan.seed),
        offsets,
        paths,
        sources,
        tuple(notes),
        (*(paths.identities if paths else ()), *checks, circuit_identity(model, texts)),
        hooks_read(model),
        plan.seed,
    )


def hooks_read(model: HookedTransformer) -> tuple[str, ...]:
    """The hooks of every layer that the study reads."""
    names = (hook_names.pattern, hook_names.attn_scores, hook_names.v, hook_names.resid_pre)
    hooks = [name(layer) for layer in range(model.cfg.n_layers) for name in names]
    if model.cfg.normalization_type is not None:
        hooks += [*(hook_names.ln_scale(layer, 1) for layer in range(model.cfg.n_layers)), hook_names.LN_FINAL_SCALE]
    return tuple(hooks)


def head_tokens(
    model: HookedTransformer, layer: int, head: int, words: Int[Tensor, " word"], *, scales: Scales, top: int
) -> HeadTokens:
    """Extreme entries of one head's circuits over the vocabulary, and its rows for some words.

    Scores are above the mean of their row (the softmax ignores the rest), logits above the mean logit.
    """
    qk = above_row_mean(qk_circuit(model, layer, head, scale=scales.before[layer]))
    ov = above_row_mean(ov_circuit(model, layer, head, scale=scales.before[layer] * scales.final))
    return HeadTokens(
        layer,
        head,
        extreme_entries(qk, top),
        extreme_entries(ov, top),
        row_extremes(qk.of_rows(words), top),
        row_extremes(ov.of_rows(words), top),
        (qk.left[words] @ qk.right[:, words]).cpu(),
        (ov.left[words] @ ov.right[:, words]).cpu(),
    )


def above_row_mean(circuit: TokenCircuit) -> TokenCircuit:
    """Each entry minus the mean of its row."""
    return TokenCircuit(circuit.left, circuit.right - circuit.right.mean(1, keepdim=True))


def study_copying(model: HookedTransformer, texts: Texts, scales: Scales, *, n_null: int, seed: int) -> CopyingStudy:
    """The notions of copying of every head, tested against `n_null` random heads of the same norms."""
    logit_scales = tuple(scale * scales.final for scale in scales.before)
    weights = weight_copying(model, scales=logit_scales, seed=seed, n_null=n_null)
    text = text_copying(model, texts.texts, seed=seed, n_null=n_null)
    values = weights.notions | {"text_logit": text.mean}
    q = {}
    for name in MEASURES:
        null = weights.null.get(name)
        less = name == "own_rank"
        p = [
            p_value(float(value), text.null[:, head] if null is None else null, "less" if less else "greater")
            if value == value
            else torch.nan
            for head, value in enumerate(values[name])
        ]
        q[name] = benjamini_hochberg(torch.tensor(p, dtype=torch.float64))
    return CopyingStudy(weights, text, q, agreement(values))


def agreement(values: dict[str, Float64[Tensor, " head"]]) -> Float64[Tensor, "measure measure"]:
    """Spearman correlation of MEASURES over the heads for which all are defined, more copying being more in all."""
    table = torch.stack([-values[name] if name == "own_rank" else values[name] for name in MEASURES], dim=1)
    table = table[~table.isnan().any(1)]
    if len(table) < 3:
        return torch.full((len(MEASURES),) * 2, torch.nan, dtype=torch.float64)
    ranks = average_ranks(table)
    ranks = ranks - ranks.mean(0)
    size = ranks.norm(dim=0)
    return ranks.T @ ranks / torch.where(size > 0, size, torch.nan).outer(torch.where(size > 0, size, torch.nan))


@torch.no_grad()
def circuit_identity(model: HookedTransformer, texts: Texts) -> Identity:
    """Each head's values times W_O, summed over keys, plus b_O = the model's attention output, on the first text."""
    text, error = texts.texts[0], 0.0
    names = (hook_names.pattern, hook_names.v, hook_names.attn_out)
    hooks = [name(layer) for layer in range(model.cfg.n_layers) for name in names]
    _, cache = model.run_with_cache(text.tokens.unsqueeze(0).to(model.device), names_filter=hooks)
    for layer in range(model.cfg.n_layers):
        attn = model.blocks[layer].attn
        values = einsum(cache[hook_names.v(layer)][0], attn.W_O, "k h d, h d m -> h k m")
        written = (cache[hook_names.pattern(layer)][0] @ values).sum(0) + attn.b_O
        error = max(error, float((written - cache[hook_names.attn_out(layer)][0]).abs().max()))
    return Identity("heads sum to attn_out", "sum over heads and keys of A v W_O, + b_O = hook_attn_out", error, 1e-4)
