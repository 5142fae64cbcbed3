"""Skip-trigrams of one model: mined in every head, checked on text, against the same in models without structure."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.circuits.qk_ov_study import circuit_identity
from lens_utils.circuits.skip_trigrams import Crossing, SkipTrigram, candidate_tokens, crossings, follow_counts, mine
from lens_utils.circuits.texts import Texts
from lens_utils.circuits.trigram_check import TrigramEffect, check_trigrams
from lens_utils.circuits.weights import Scales, check_attention, typical_scales
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.null_models import shuffled_weights
from lens_utils.progress import track
from lens_utils.prompts import TokenizedText
from lens_utils.statistics import benjamini_hochberg, pooled_p_values


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to mine and to check."""

    top: int
    per_source: int
    least: int
    contexts: int
    null_models: int
    crossings: int
    seed: int


@dataclass(frozen=True)
class TrigramStudy:
    """Everything the tables and figures show."""

    strings: tuple[str, ...]
    effects: tuple[TrigramEffect, ...]
    seen: tuple[tuple[int, int], ...]
    """Of each: how often C followed B with A before it in the texts, and how often B had A before it."""
    null: tuple[TrigramEffect, ...]
    """Mined and checked in the same way in models with shuffled weights."""
    q: Float64[Tensor, " trigram"]
    """p of the effect against the null's effects, Benjamini-Hochberg over all trigrams; nan without contexts."""
    crossed: tuple[tuple[Crossing, tuple[TrigramEffect, ...]], ...]
    """Each crossing with the effects of its two wanted and two unwanted trigrams."""
    candidates: int
    texts: Texts
    notes: tuple[str, ...]
    identities: tuple[Identity, ...]
    hooks: tuple[str, ...]

    @property
    def holds(self) -> Bool[Tensor, " trigram"]:
        """Which trigrams act on text: interval above 0, and beyond the null (q <= 0.05)."""
        low = torch.tensor([each.effect.low for each in self.effects], dtype=torch.float64)
        return (low > 0) & (self.q <= 0.05)


def study_trigrams(model: HookedTransformer, texts: Texts, plan: Plan) -> TrigramStudy:
    """Mine, check, and set beside `plan.null_models` models with shuffled weights."""
    check_attention(model)
    candidates = candidate_tokens(texts.texts, least=plan.least)
    scales = typical_scales(model, texts.texts[:24])
    effects = _mined_and_checked(model, texts.texts, candidates, scales, plan)
    null = []
    for number in range(plan.null_models):
        other = shuffled_weights(model, seed=plan.seed + 1 + number)
        its_scales = typical_scales(other, texts.texts[:24])
        null += _mined_and_checked(other, texts.texts, candidates, its_scales, plan)
    notes = [scales.statement]
    if model.cfg.n_layers > 1:
        notes.append("Heads of later layers are read as if they saw embeddings alone.")
    read = (hook_names.z, hook_names.v, hook_names.pattern, hook_names.attn_out)
    hooks = [name(layer) for layer in range(model.cfg.n_layers) for name in read]
    return TrigramStudy(
        strings=tuple(model.to_str_tokens(list(range(model.cfg.d_vocab)))),
        effects=effects,
        seen=tuple(_seen(each.trigram, texts.texts) for each in effects),
        null=tuple(null),
        q=_q(effects, null),
        crossed=_crossed(model, texts.texts, candidates, scales, plan),
        candidates=len(candidates),
        texts=texts,
        notes=tuple(notes),
        identities=(circuit_identity(model, texts), parts_identity(model, effects, scales)),
        hooks=tuple(hooks),
    )


def _heads(model: HookedTransformer) -> list[tuple[int, int]]:
    return [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]


def _mined_and_checked(
    model: HookedTransformer, texts: Sequence[TokenizedText], candidates: Tensor, scales: Scales, plan: Plan
) -> tuple[TrigramEffect, ...]:
    found: list[SkipTrigram] = []
    for layer, head in track(_heads(model), "mining"):
        options = {"scales": scales, "top": plan.top, "per_source": plan.per_source}
        found += mine(model, layer, head, candidates, **options)
    return check_trigrams(model, found, texts, candidates, seed=plan.seed, n_contexts=plan.contexts)


def _q(effects: Sequence[TrigramEffect], null: Sequence[TrigramEffect]) -> Float64[Tensor, " trigram"]:
    observed = torch.tensor([each.effect.estimate for each in effects], dtype=torch.float64)
    none = torch.tensor([each.effect.estimate for each in null], dtype=torch.float64)
    p = pooled_p_values(observed.nan_to_num(), [none[~none.isnan()]], two_sided=False)
    return benjamini_hochberg(torch.where(observed.isnan(), torch.nan, p))


def _seen(trigram: SkipTrigram, texts: Sequence[TokenizedText]) -> tuple[int, int]:
    counts = follow_counts(texts, trigram.source, [trigram.current])
    together = sum(counts.values())
    return counts.get((trigram.current, trigram.predicted), 0), together


def _crossed(
    model: HookedTransformer, texts: Sequence[TokenizedText], candidates: Tensor, scales: Scales, plan: Plan
) -> tuple[tuple[Crossing, tuple[TrigramEffect, ...]], ...]:
    found: list[Crossing] = []
    for layer, head in track(_heads(model), "crossings"):
        found += crossings(model, layer, head, candidates, texts, scales=scales)
    chosen = sorted(found, key=lambda each: -each.strength)[: plan.crossings]
    trigrams = [trigram for each in chosen for trigram in (*each.wanted, *each.unwanted)]
    effects = check_trigrams(model, trigrams, texts, candidates, seed=plan.seed, n_contexts=plan.contexts)
    return tuple((each, effects[4 * index : 4 * index + 4]) for index, each in enumerate(chosen))


@torch.no_grad()
def parts_identity(model: HookedTransformer, effects: Sequence[TrigramEffect], scales: Scales) -> Identity:
    """The OV part of each mined trigram against the head's weights run on the source's embedding, one by one."""
    error = 0.0
    for each in effects:
        trigram = each.trigram
        attn = model.blocks[trigram.layer].attn
        embedded = model.W_E[trigram.source]
        if model.cfg.normalization_type is not None:
            embedded = embedded - embedded.mean()
        logits = embedded @ attn.W_V[trigram.head] @ attn.W_O[trigram.head] @ model.W_U
        logits = logits / (scales.before[trigram.layer] * scales.final)
        error = max(error, abs(float(logits[trigram.predicted] - logits.mean()) - trigram.ov))
    return Identity(
        "OV parts", "OV part of each trigram = logit of the source's embedding through the head", error, 1e-4
    )
