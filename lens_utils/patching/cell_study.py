"""Activation patching of one task: the runs unpatched, every kind pooled over pairs, and the engine's checks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.metrics import Metric, accuracy
from lens_utils.patching.cell_checks import cell_identities
from lens_utils.patching.journal import Journal
from lens_utils.patching.pooling import PooledKind, pool, role_names
from lens_utils.patching.propagation import Judge, at_end
from lens_utils.patching.runs import Direction, run_texts
from lens_utils.patching.sweep import Sweep, sweep
from lens_utils.prompt_pairs import PromptPair
from lens_utils.statistics import Interval, bootstrap_interval

DEFAULT_KINDS = ("z", "z_by_pos", "q", "k", "v", "pattern", "attn_out", "mlp_out", "resid_pre")
_PAIRS_AT_ONCE = 16


@dataclass(frozen=True)
class Unpatched:
    """What the model does with the pairs themselves."""

    clean: Float64[Tensor, " pair"]
    """The metric of the clean run."""
    corrupted: Float64[Tensor, " pair"]
    right: Bool[Tensor, " pair"]
    """Whether the answer is the model's first choice on the clean prompt."""
    swapped: Bool[Tensor, " pair"]
    """Whether the wrong answer is its first choice on the corrupted prompt."""
    largest_logit: float

    @property
    def gap(self) -> Float64[Tensor, " pair"]:
        """Clean minus corrupted: what effects are shares of."""
        return self.clean - self.corrupted


@dataclass(frozen=True)
class CellStudy:
    """Everything that tables and figures show."""

    model_name: str
    source: str
    """Set of pairs, or file."""
    metric: Metric
    pairs: tuple[PromptPair, ...]
    unpatched: Unpatched
    sweeps: dict[tuple[str, Direction], Sweep]
    pooled: dict[str, PooledKind]
    identities: tuple[Identity, ...]
    notes: tuple[str, ...]
    seed: int

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions that were patched."""
        return tuple(dict.fromkeys(direction for _, direction in self.sweeps))


def default_kinds(model: HookedTransformer, pairs: Sequence[PromptPair]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The kinds of DEFAULT_KINDS that model and pairs have, and what was left out, in words."""
    unequal = any(len(pair.clean) != len(pair.corrupted) for pair in pairs)
    left_out = {"mlp_out"} if model.cfg.attn_only else set()
    notes = ()
    if unequal:
        left_out.add("pattern")
        notes = ("Kind pattern is left out: prompts of unequal length have no rows of attention in common.",)
    return tuple(kind for kind in DEFAULT_KINDS if kind not in left_out), notes


@torch.inference_mode()
def run_unpatched(model: HookedTransformer, pairs: Sequence[PromptPair], metric: Metric) -> Unpatched:
    """Both runs of every pair: the metric, and the model's first choice."""
    found: list[tuple[Tensor, ...]] = []
    largest = 0.0
    for begin in range(0, len(pairs), _PAIRS_AT_ONCE):
        some = pairs[begin : begin + _PAIRS_AT_ONCE]
        clean = run_texts(model, [pair.clean for pair in some], [pair.clean_end for pair in some], [])
        other = run_texts(model, [pair.corrupted for pair in some], [pair.corrupted_end for pair in some], [])
        judge, rows = Judge(model, some, metric, clean), torch.arange(len(some), device=model.device)
        logits = [judge.logits(at_end(run)) for run in (clean, other)]
        largest = max(largest, *(float(each.abs().max()) for each in logits))
        values = [judge(at_end(run), rows).double().cpu() for run in (clean, other)]
        first = [accuracy(each, to).bool().cpu() for each, to in zip(logits, (judge.answers, judge.wrong), strict=True)]
        found.append((*values, *first))
    return Unpatched(*(torch.cat(each) for each in zip(*found, strict=True)), largest_logit=largest)


def study_cells(
    model: HookedTransformer,
    pairs: Sequence[PromptPair],
    kinds: Sequence[str],
    *,
    source: str = "",
    directions: Sequence[Direction] = ("denoise", "noise"),
    metric: Metric = "logit_diff",
    max_memory: float = 2.0,
    journal: Journal | None = None,
    seed: int = 0,
) -> CellStudy:
    """Every cell of these kinds in these directions, pooled over pairs; without kinds, the default ones."""
    usual, notes = default_kinds(model, pairs)
    chosen = tuple(dict.fromkeys(kinds)) or usual
    sweeps = sweep(model, pairs, chosen, directions=directions, metric=metric, max_memory=max_memory, journal=journal)
    unpatched = run_unpatched(model, pairs, metric)
    names = role_names(pairs)
    pooled = {
        kind: pool({direction: sweeps[kind, direction] for direction in directions}, pairs, names, seed=seed)
        for kind in chosen
    }
    return CellStudy(
        model.cfg.model_name,
        source,
        metric,
        tuple(pairs),
        unpatched,
        sweeps,
        pooled,
        cell_identities(model, pairs, sweeps, largest_logit=unpatched.largest_logit, seed=seed, max_memory=max_memory),
        (*(() if kinds else notes), *_doubts(unpatched, seed)),
        seed,
    )


def gap_interval(unpatched: Unpatched, seed: int) -> Interval:
    """The mean clean-corrupted difference of the metric, over pairs."""
    return bootstrap_interval(unpatched.gap, seed=seed)


def _doubts(unpatched: Unpatched, seed: int) -> tuple[str, ...]:
    if 0.0 not in gap_interval(unpatched, seed):
        return ()
    return (
        "The model does not tell clean from corrupted prompts here (the interval of the mean difference holds 0): "
        "shares of that difference say little.",
    )
