"""What must hold of any sweep: patching a run with itself changes nothing, with everything it becomes the other run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.patching.reference import Cell, patched_together
from lens_utils.patching.runs import DIRECTIONS, Direction
from lens_utils.patching.sweep import Sweep, sweep
from lens_utils.prompt_pairs import PromptPair

TOLERANCE = 1e-5
ROUNDINGS = 20
"""Roundings of the largest logit that two ways of adding the same numbers may be apart."""
CHECKED_PAIRS = 4
SAMPLED = 4
"""Cells of each kind and direction that are computed by a plain forward pass too: half of them changed something."""
_UNIT = "as a share of the mean clean-corrupted difference, or in the metric's units where that is below 1"


def cell_identities(
    model: HookedTransformer,
    pairs: Sequence[PromptPair],
    sweeps: Mapping[tuple[str, Direction], Sweep],
    *,
    largest_logit: float,
    seed: int,
    max_memory: float,
) -> tuple[Identity, ...]:
    """Self-patch, patch-all (where prompts have equal length), and the engine beside the plain loop."""
    first = next(iter(sweeps.values()))
    scale = max(1.0, float((first.clean - first.corrupted).mean().abs()))
    tolerance = max(TOLERANCE, ROUNDINGS * torch.finfo(model.cfg.dtype).eps * largest_logit / scale)
    checks = {
        "patching a run with itself changes nothing": (
            "metric of every cell = metric of the run",
            _self_patch(model, pairs, sweeps, max_memory),
        ),
        "the engine equals the plain loop": (
            "metric of sampled cells = that of a forward pass with one hook",
            _plain(model, pairs, sweeps, seed),
        ),
    }
    equal = [pair for pair in pairs if len(pair.clean) == len(pair.corrupted)][:CHECKED_PAIRS]
    if equal:
        statement = "metric with every position of resid_pre 0 patched = metric of the other run"
        checks["everything patched is the other run"] = (statement, _patch_all(model, equal, sweeps))
    return tuple(
        Identity(name, f"{statement} ({_UNIT})", error / scale, tolerance)
        for name, (statement, error) in checks.items()
    )


def _self_patch(
    model: HookedTransformer,
    pairs: Sequence[PromptPair],
    sweeps: Mapping[tuple[str, Direction], Sweep],
    max_memory: float,
) -> float:
    """Largest change of the metric when a run is patched with itself, no cell skipped."""
    kinds, metric = list(dict.fromkeys(kind for kind, _ in sweeps)), next(iter(sweeps.values())).metric
    same = [
        replace(
            pair,
            corrupted=pair.clean,
            corrupted_end=pair.clean_end,
            aligned=tuple((pos, pos) for pos in range(len(pair.clean))),
        )
        for pair in pairs[:2]
    ]
    found = sweep(model, same, kinds, directions=["noise"], metric=metric, max_memory=max_memory, skip=False)
    return max(
        float((each.values - each.clean.reshape(-1, *[1] * len(each.kind.axes))).abs().nan_to_num().max())
        for each in found.values()
    )


def _plain(
    model: HookedTransformer,
    pairs: Sequence[PromptPair],
    sweeps: Mapping[tuple[str, Direction], Sweep],
    seed: int,
) -> float:
    """Largest difference of sampled cells from the plain loop."""
    generator, error = torch.Generator().manual_seed(seed), 0.0
    for (kind, direction), found in sweeps.items():
        base = (found.corrupted if direction == "denoise" else found.clean).reshape(-1, *[1] * len(found.kind.axes))
        changed, there = (found.values - base).abs() > 1e-3, ~found.values.isnan()
        for among in (changed & there, there):
            cells = among.nonzero()
            for at in cells[torch.randperm(len(cells), generator=generator)[: SAMPLED // 2]].tolist():
                place = dict(zip(found.kind.axes, at[1:], strict=True))
                unit = place.get("head", place.get("neuron"))
                cell = Cell(kind, place["layer"], unit, place.get("pos"))
                plain = patched_together(model, pairs[at[0]], [cell], direction=direction, metric=found.metric)
                error = max(error, abs(plain - float(found.values[tuple(at)])))
    return error


def _patch_all(
    model: HookedTransformer, pairs: Sequence[PromptPair], sweeps: Mapping[tuple[str, Direction], Sweep]
) -> float:
    """Largest difference from the source run's metric when the whole residual stream is patched."""
    metric = next(iter(sweeps.values())).metric
    error = 0.0
    for pair in pairs:
        cells = [Cell("resid_pre", 0, pos=pos) for pos in range(len(pair.clean))]
        for direction, other in (DIRECTIONS, DIRECTIONS[::-1]):
            everything = patched_together(model, pair, cells, direction=direction, metric=metric)
            # What the other direction changes is the run that this one takes its values from
            error = max(error, abs(everything - patched_together(model, pair, [], direction=other, metric=metric)))
    return error
