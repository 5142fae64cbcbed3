"""Cells of many prompt pairs pooled: positions of different wording by their role, effects with interval and null."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float64, Int
from torch import Tensor

from lens_utils.patching.kinds import Kind
from lens_utils.patching.runs import Direction
from lens_utils.patching.sweep import Sweep
from lens_utils.prompt_pairs import PromptPair, roles
from lens_utils.statistics import benjamini_hochberg, ratio_intervals, sign_flip_p_values

ANYWHERE = "all positions"
"""The one role of kinds whose cells are all positions together."""
AGREES = 0.1
"""Share of the mean clean-corrupted difference by which a pair must move to count as moved."""
FLIPS = 1000
_CELLS_AT_ONCE = 4096


@dataclass(frozen=True)
class PooledEffects:
    """One direction of one kind; axes [layer, unit, role], unit and role of size 1 where the kind has none."""

    metric: Float64[Tensor, "layer unit role"]
    """Mean metric of the patched runs."""
    share: Float64[Tensor, "layer unit role"]
    """denoise: share of the clean-corrupted difference restored; noise: share of it lost."""
    low: Float64[Tensor, "layer unit role"]
    high: Float64[Tensor, "layer unit role"]
    null: Float64[Tensor, "layer unit role"]
    """95 % quantile of |share| when each pair's change has a random sign: what pairs that disagree would reach."""
    q: Float64[Tensor, "layer unit role"]
    """Sign-flip p over pairs, Benjamini-Hochberg over the kind's cells; nan where nothing ever changes."""
    agree: Float64[Tensor, "layer unit role"]
    """Share of pairs that move towards the other run by at least AGREES of the mean difference."""


@dataclass(frozen=True)
class PooledKind:
    """The cells of one kind over all pairs, each direction."""

    kind: Kind
    roles: tuple[str, ...]
    pairs: Int[Tensor, " role"]
    """Pairs that have such a position."""
    effects: dict[Direction, PooledEffects]

    @property
    def strength(self) -> Float64[Tensor, "layer unit role"]:
        """The larger share of the directions, in magnitude."""
        return torch.stack([each.share.abs().nan_to_num() for each in self.effects.values()]).amax(0)


def role_names(pairs: Sequence[PromptPair]) -> tuple[str, ...]:
    """The roles of the pairs, by mean place in the prompt; `other`, which is anywhere, last."""
    places: dict[str, list[float]] = {}
    for pair in pairs:
        for pos, role in enumerate(roles(pair)):
            places.setdefault(role, []).append(pos / len(pair.clean))
    return tuple(sorted(places, key=lambda role: (role == "other", sum(places[role]) / len(places[role]), role)))


def role_masks(pairs: Sequence[PromptPair], names: Sequence[str], n_pos: int) -> Float64[Tensor, "pair pos role"]:
    """1 where a position of the clean prompt has the role and a counterpart in the corrupted prompt."""
    masks = torch.zeros(len(pairs), n_pos, len(names), dtype=torch.float64)
    for row, pair in enumerate(pairs):
        each = roles(pair)
        for pos, _ in pair.aligned:
            masks[row, pos, names.index(each[pos])] = 1
    return masks


def pool(
    sweeps: Mapping[Direction, Sweep], pairs: Sequence[PromptPair], names: Sequence[str], *, seed: int
) -> PooledKind:
    """The directions of one kind, pooled over pairs; a role's several positions in a prompt count as their mean."""
    kind = next(iter(sweeps.values())).kind
    pooled = {direction: by_role(each, pairs, names) for direction, each in sweeps.items()}
    found: dict[Direction, PooledEffects] = {
        direction: pooled_effects(sweeps[direction], pooled[direction], seed=seed) for direction in sweeps
    }
    there = (~next(iter(pooled.values()))[:, 0, 0].isnan()).sum(0)
    return PooledKind(kind, tuple(names) if kind.by_pos else (ANYWHERE,), there, found)


def by_role(found: Sweep, pairs: Sequence[PromptPair], names: Sequence[str]) -> Float64[Tensor, "pair layer unit role"]:
    """The metric of each pair's cells, mean over the positions of a role; nan where a prompt has none."""
    values = found.values if found.kind.unit else found.values[:, :, None]
    if not found.kind.by_pos:
        return values[..., None]
    masks = role_masks(pairs, names, values.shape[-1])
    total = einsum(values.nan_to_num(), masks, "pair layer unit pos, pair pos role -> pair layer unit role")
    counts = masks.sum(1)[:, None, None]
    return total / torch.where(counts > 0, counts, torch.nan)


def pooled_effects(found: Sweep, values: Float64[Tensor, "pair layer unit role"], *, seed: int) -> PooledEffects:
    """Means over pairs with intervals, null and q; the pairs are the independent units."""
    denoise = found.direction == "denoise"
    base, gap = found.corrupted if denoise else found.clean, found.clean - found.corrupted
    change = (values - base[:, None, None, None]) * (1 if denoise else -1)
    least = AGREES * gap.mean().abs()
    parts: list[Tensor] = []
    for role in range(values.shape[-1]):
        there = ~values[:, 0, 0, role].isnan()
        cells = change[there][..., role].flatten(1)
        split = [_tested(each, gap[there], seed) for each in cells.split(_CELLS_AT_ONCE, dim=1)]
        agree = (cells * gap.mean().sign() >= least).double().mean(0)
        numbers = torch.cat([torch.cat(split, dim=1), agree[None], values[there][..., role].flatten(1).mean(0)[None]])
        parts.append(numbers.reshape(len(numbers), *values.shape[1:3]))
    share, low, high, null, p, agree, metric = torch.stack(parts, dim=-1)
    return PooledEffects(metric, share, low, high, null, benjamini_hochberg(p), agree)


def _tested(change: Tensor, gap: Tensor, seed: int) -> Tensor:
    """Share, low, high, null and p of cells [pair, cell]; all nan without pairs."""
    if not len(change):
        return torch.full((5, change.shape[1]), torch.nan, dtype=torch.float64)
    ratio = ratio_intervals(change, gap, seed=seed, n_resamples=FLIPS)
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (FLIPS, len(change)), generator=generator).double() * 2 - 1
    null = torch.quantile((signs @ change / len(change)).abs(), 0.95, dim=0) / gap.mean().abs()
    # A cell that never changes anything is not tested
    p = torch.where((change == 0).all(0), torch.nan, sign_flip_p_values(change, seed=seed))
    return torch.cat([ratio, null[None], p[None]])
