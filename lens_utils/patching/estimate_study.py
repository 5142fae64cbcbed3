"""How well gradients stand in for patching: estimates of cells and edges beside the exact sweeps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.metrics import Metric
from lens_utils.patching.gradients import estimate, estimate_paths
from lens_utils.patching.nodes import receivers, senders
from lens_utils.patching.paths import Paths, path_effects
from lens_utils.patching.runs import DIRECTIONS, Direction
from lens_utils.patching.sweep import Sweep, sweep
from lens_utils.prompt_pairs import PromptPair
from lens_utils.statistics import average_ranks

EDGES = "edges"
TOP = 10
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Compared:
    """Effects of the cells of one kind (or of edges), exact and estimated, pair by pair.

    An effect is the change of the metric towards the other run over the mean clean-corrupted difference: 1 is all of
    it. Cells of both directions are signed alike.
    """

    kind: str
    direction: Direction
    names: tuple[str, ...]
    """The cells; empty for kinds whose cells are positions, which differ from prompt to prompt."""
    exact: Float64[Tensor, "pair cell"]
    plain: Float64[Tensor, "pair cell"]
    """From the gradient at the base run."""
    integrated: Float64[Tensor, "pair cell"]
    """From the gradient averaged along the way to the other run."""


@dataclass(frozen=True)
class Agreement:
    """How an estimate of many cells agrees with the exact effects."""

    pearson: float
    spearman: float
    same_top: float
    """Share of the TOP cells of largest exact magnitude that are among the estimate's TOP."""
    ratio: float
    """Sum of |estimate| over sum of |exact|: above 1, the estimate is too large."""


@dataclass(frozen=True)
class EstimateStudy:
    """All kinds, both directions."""

    pairs: tuple[PromptPair, ...]
    metric: Metric
    steps: int
    compared: tuple[Compared, ...]
    identities: tuple[Identity, ...]


def agreement(exact: Float64[Tensor, " cell"], estimated: Float64[Tensor, " cell"]) -> Agreement:
    """How well the estimates order and size the exact effects; nan for fewer than three cells or constant ones."""
    if len(exact) < 3 or bool((exact == exact[0]).all()) or bool((estimated == estimated[0]).all()):
        return Agreement(torch.nan, torch.nan, torch.nan, torch.nan)
    ranks = average_ranks(torch.stack([exact, estimated], dim=1)).T
    top = min(TOP, len(exact))
    best = [set(values.abs().argsort(descending=True, stable=True)[:top].tolist()) for values in (exact, estimated)]
    return Agreement(
        float(torch.corrcoef(torch.stack([exact, estimated]))[0, 1]),
        float(torch.corrcoef(ranks)[0, 1]),
        len(best[0] & best[1]) / top,
        float(estimated.abs().sum() / exact.abs().sum()),
    )


def study_estimates(
    model: HookedTransformer,
    pairs: Sequence[PromptPair],
    kinds: Sequence[str],
    *,
    metric: Metric = "logit_diff",
    steps: int = 8,
    max_memory: float = 2.0,
) -> EstimateStudy:
    """Exact sweeps and both estimates of every kind; of edges too where direct paths are defined (pre-norm)."""
    exact = sweep(model, pairs, kinds, metric=metric, max_memory=max_memory)
    compared, identities = [], []
    for direction in DIRECTIONS:
        made = [
            estimate(model, pairs, kinds, direction=direction, metric=metric, steps=n, max_memory=max_memory)
            for n in (1, steps)
        ]
        for kind in dict.fromkeys(kinds):
            compared.append(_compare_cells(exact[kind, direction], made[0][kind], made[1][kind]))
        if not model.cfg.post_norm:
            given, read = senders(model), receivers(model)
            whole = path_effects(model, pairs, given, read, direction=direction, metric=metric, max_memory=max_memory)
            edges = [
                estimate_paths(
                    model, pairs, given, read, direction=direction, metric=metric, steps=n, max_memory=max_memory
                )
                for n in (1, steps)
            ]
            compared.append(_compare_edges(whole, edges[0], edges[1]))
            identities.append(_chain_identity(model, pairs, edges[0], metric))
        identities.append(_sum_identity(model, pairs, direction, metric))
    return EstimateStudy(tuple(pairs), metric, steps, tuple(compared), tuple(identities))


def _compare_cells(exact: Sweep, plain: Sweep, integrated: Sweep) -> Compared:
    kind = exact.kind
    unit = {"head": "H", "neuron": "N", "": ""}[kind.unit]
    layers, units = exact.values.shape[1], exact.values.shape[2] if unit else 1
    names = [f"L{layer}{unit}{at}" for layer in range(layers) for at in range(units)]
    changes = [_shares(each) for each in (exact, plain, integrated)]
    return Compared(kind.name, exact.direction, () if kind.by_pos else tuple(names), *changes)


def _compare_edges(exact: Paths, plain: Paths, integrated: Paths) -> Compared:
    there = ~exact.values[0].isnan()
    names = [f"{exact.senders[row]} to {exact.receivers[column]}" for row, column in there.nonzero().tolist()]
    changes = [_shares(each)[:, there.flatten()] for each in (exact, plain, integrated)]
    return Compared(EDGES, exact.direction, tuple(names), *changes)


def _shares(measured: Sweep | Paths) -> Float64[Tensor, "pair cell"]:
    base = measured.corrupted if measured.direction == "denoise" else measured.clean
    change = measured.values.flatten(1) - base[:, None]
    sign = 1 if measured.direction == "denoise" else -1
    return sign * change / (measured.clean - measured.corrupted).mean()


def _sum_identity(
    model: HookedTransformer, pairs: Sequence[PromptPair], direction: Direction, metric: Metric
) -> Identity:
    """attn_out is linear in z, so the estimates of a layer's heads add up to that of its attention output."""
    found = estimate(model, pairs[:4], ("attn_out", "z"), direction=direction, metric=metric)
    base = found["z"].corrupted if direction == "denoise" else found["z"].clean
    heads = (found["z"].values - base[:, None, None]).sum(2)
    whole = (found["attn_out"].values - base[:, None, None]).nan_to_num().sum(2)
    statement = "estimates of a layer's heads = estimate of its attn_out over all positions (metric's units)"
    return Identity(f"heads sum to attn_out ({direction})", statement, float((heads - whole).abs().max()), TOLERANCE)


def _chain_identity(model: HookedTransformer, pairs: Sequence[PromptPair], edges: Paths, metric: Metric) -> Identity:
    """The chain rule: a head's estimate is the sum over all who read it."""
    direction = edges.direction
    base = edges.corrupted if direction == "denoise" else edges.clean
    heads = [at for at, node in enumerate(edges.senders) if node.part == "head"]
    summed = (edges.values[:, heads] - base[:, None, None]).nan_to_num().sum(2)
    whole = estimate(model, pairs, ("z",), direction=direction, metric=metric)["z"].values.flatten(1) - base[:, None]
    statement = "sum of the estimates of a head's edges = estimate of the head (metric's units)"
    return Identity(f"edges sum to heads ({direction})", statement, float((summed - whole).abs().max()), TOLERANCE)
