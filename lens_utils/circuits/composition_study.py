"""Composition in one model: every pair of heads against random ones, virtual heads on text, sources of scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from lens_utils.circuits import composition
from lens_utils.circuits import path_expansion as paths
from lens_utils.circuits.path_study import ScoreSources, study_sources
from lens_utils.circuits.qk_ov_study import circuit_identity, hooks_read
from lens_utils.circuits.texts import Texts
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.progress import track
from lens_utils.prompts import TokenizedText
from lens_utils.statistics import benjamini_hochberg, pooled_p_values


@dataclass(frozen=True)
class PairScores:
    """Scores of every pair of heads, [kind, sender, receiver]; nan where the receiver is not in a later layer."""

    scores: Float64[Tensor, "kind sender receiver"]
    z: Float64[Tensor, "kind sender receiver"]
    """Standard deviations above random heads of the same shape; 0 for null heads."""
    z_rotated: Float64[Tensor, "kind sender receiver"]
    """Standard deviations above the same heads turned at random against each other."""
    q: Float64[Tensor, "kind sender receiver"]
    """p against the turned heads, one-sided, pooled over pairs, Benjamini-Hochberg over pairs and kinds."""
    baseline: Float64[Tensor, " pair"]
    """Scores of pairs of random heads."""
    low: Float64[Tensor, "kind sender receiver"]
    """2.5 % quantile of the scores of the turned heads."""
    high: Float64[Tensor, "kind sender receiver"]
    """97.5 % quantile of them."""

    @property
    def stands_out(self) -> Bool[Tensor, "kind sender receiver"]:
        """q <= 0.05 and at least 3 standard deviations above random heads."""
        return (self.q <= 0.05) & (self.z >= 3)


@dataclass(frozen=True)
class VirtualHead:
    """Head `receiver` reading what head `sender` (of an earlier layer) wrote, values through both."""

    sender: tuple[int, int]
    receiver: tuple[int, int]
    given: Float64[Tensor, " text"]
    """What the path gives the next token over the mean logit, in nats; mean over positions of each text."""
    cost: Float64[Tensor, " text"]
    """Rise of the loss without the path, in nats."""
    distance: int
    """The number of positions back with most of the pattern A2 A1, among those of all texts."""
    mass: float
    """Mean of the pattern at that distance."""


@dataclass(frozen=True)
class CompositionStudy:
    """Everything the tables and figures show."""

    labels: tuple[str, ...]
    n_layers: int
    n_heads: int
    d_model: int
    pairs: PairScores
    virtual: tuple[VirtualHead, ...]
    sources: tuple[ScoreSources, ...]
    """Where the scores of each head come from; none where there are MLPs."""
    texts: Texts
    notes: tuple[str, ...]
    identities: tuple[Identity, ...]
    hooks: tuple[str, ...]
    seed: int


def study_composition(
    model: HookedTransformer, texts: Texts, *, n_random: int, n_rotations: int, n_paths: int, seed: int
) -> CompositionStudy:
    """Weights of every pair; virtual heads and scores by source on `n_paths` texts where there is no MLP."""
    composition.check_composition(model)
    pairs, identity = score_pairs(model, n_random=n_random, n_rotations=n_rotations, seed=seed)
    notes: list[str] = []
    sources, checks, virtual = (), (), ()
    if model.cfg.attn_only:
        sources, checks = study_sources(model, texts.texts[:n_paths])
        virtual = virtual_heads(model, texts.texts[:n_paths])
    else:
        notes.append(
            "No virtual heads and no scores by source: with MLPs the paths through heads are not all there is."
        )
    identities = (*checks, identity, circuit_identity(model, texts))
    return CompositionStudy(
        tuple(model.all_head_labels()),
        model.cfg.n_layers,
        model.cfg.n_heads,
        model.cfg.d_model,
        pairs,
        virtual,
        sources,
        texts,
        tuple(notes),
        identities,
        hooks_read(model),
        seed,
    )


def score_pairs(model: HookedTransformer, *, n_random: int, n_rotations: int, seed: int) -> tuple[PairScores, Identity]:
    """Scores, z, q and intervals of every pair, and the check of one pair of each two layers by full products."""
    scores = composition.composition_scores(model)
    baseline = composition.random_scores(model.cfg.d_model, model.cfg.d_head, n=n_random, seed=seed).double()
    null = composition.rotation_null(model, n=n_rotations, seed=seed)
    found = scores.double().cpu()
    z = composition.z_scores(found, float(baseline.mean()), float(baseline.std()))
    # A null head is 0 by definition and has no spread of its own: it lies at the baseline of no head
    empty = found == 0
    z = torch.where(empty, 0.0, z)
    mean, sd, deviations = (each.cpu() for each in (null.mean, null.sd, null.standardised))
    z_rotated = composition.z_scores(found, mean, sd)
    pair = composition.is_pair(model.cfg.n_layers, model.cfg.n_heads).expand_as(found)
    spread = pair & (sd > 0)
    p = torch.full_like(found, torch.nan)
    p[pair] = 1.0
    p[spread] = pooled_p_values(z_rotated[spread], [each[spread] for each in deviations], two_sided=False)
    spans = [mean + sd * deviations.quantile(share, dim=0) for share in (0.025, 0.975)]
    result = PairScores(found, z, z_rotated, benjamini_hochberg(p), baseline, spans[0], spans[1])
    return result, full_product_identity(model, scores)


@torch.no_grad()
def full_product_identity(model: HookedTransformer, scores: Tensor) -> Identity:
    """Head 0 of each layer into head 0 of each later one by d_model x d_model products."""
    heads, error = model.cfg.n_heads, 0.0
    for late in range(1, model.cfg.n_layers):
        for early in range(late):
            one, other = model.blocks[early].attn, model.blocks[late].attn
            ov1, ov2 = (each.W_V[0].double() @ each.W_O[0].double() for each in (one, other))
            qk2 = other.W_Q[0].double() @ other.W_K[0].double().T
            slow = [(ov1 @ qk2, qk2), (ov1 @ qk2.T, qk2), (ov1 @ ov2, ov2)]
            for kind, (product, second) in enumerate(slow):
                size = float(ov1.norm() * second.norm())
                expected = float(product.norm()) / size if size else 0.0
                error = max(error, abs(float(scores[kind, early * heads, late * heads]) - expected))
    statement = "scores by d_head x d_head matrices = by full products (head 0 of every two layers)"
    return Identity("composition scores", statement, error, 1e-5)


def virtual_heads(model: HookedTransformer, texts: Sequence[TokenizedText]) -> tuple[VirtualHead, ...]:
    """Every pair of heads of two layers as one: what it gives the next token, what it costs to lose, where it looks."""
    usable = [text for text in texts if len(text) > 1]
    heads, layers = model.cfg.n_heads, range(model.cfg.n_layers)
    found: list[VirtualHead] = []
    for early, late in [(one, other) for other in layers for one in range(other)]:
        given, cost, masses = [], [], []
        for text in track(usable, f"virtual heads {early} to {late}"):
            run = paths.freeze(model, text)
            terms = paths.virtual_terms(run, early, late)
            given.append(paths.answer_logits(run, terms).mean(-1))
            cost.append(paths.removal_costs(run, terms))
            masses.append(_by_distance(paths.virtual_patterns(run, early, late)))
        shortest = min(each.shape[-1] for each in masses)
        mean = torch.stack([each[..., :shortest] for each in masses]).mean(0)
        gains, costs = torch.stack(given).double().cpu(), torch.stack(cost).double().cpu()
        for one in range(heads):
            for other in range(heads):
                mass, distance = mean[one, other].max(0)
                ends = (early, one), (late, other)
                found.append(VirtualHead(*ends, gains[:, one, other], costs[:, one, other], int(distance), float(mass)))
    return tuple(found)


def _by_distance(patterns: Tensor) -> Tensor:
    """Mean of each lower diagonal (queries from position 1 on, so that the first token is not all there is)."""
    n = min(patterns.shape[-1], 16)
    return torch.stack([patterns.diagonal(-offset, -2, -1)[..., 1:].mean(-1) for offset in range(n - 1)], dim=-1).cpu()
