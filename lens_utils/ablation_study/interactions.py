"""Pairs of heads: do two taken out together cost more, or less, than each alone?"""

from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils.ablation_study import parts
from lens_utils.ablation_study.costs import Costs
from lens_utils.ablation_study.parts import Part
from lens_utils.ablation_study.replacements import Replacement
from lens_utils.ablation_study.subjects import Task, lost
from lens_utils.hooked_transformer import HookedTransformer


@dataclass(frozen=True)
class Interactions:
    """Costs of pairs of heads on each prompt pair, in nats of logit difference."""

    heads: tuple[Part, ...]
    """Every head of the model."""
    alone: Float64[Tensor, "head unit"]
    chosen: tuple[tuple[int, int], ...]
    """The pairs that were measured, as indices of heads."""
    joint: Float64[Tensor, "pair unit"]
    all_pairs: int
    """How many pairs of heads there are."""

    @property
    def interaction(self) -> Float64[Tensor, "pair unit"]:
        """Joint cost minus the sum of the single ones.

        Positive: each stands in for the other (backup). Negative: they work on one path, which either alone breaks.
        """
        first, second = (torch.tensor([pair[at] for pair in self.chosen], dtype=torch.long) for at in (0, 1))
        return self.joint - self.alone[first] - self.alone[second]


def head_pairs(costs: Float64[Tensor, " head"], limit: int) -> tuple[tuple[int, int], ...]:
    """All pairs of heads where these are at most `limit`; else those of the heads that cost most, alone, in magnitude.

    So many heads are kept that their pairs are at most `limit`. Raises `ValueError` for a limit below 1.
    """
    if limit < 1:
        raise ValueError(f"limit={limit!r}: must be at least 1")
    kept = len(costs)
    while kept * (kept - 1) // 2 > limit:
        kept -= 1
    strongest = costs.abs().argsort(descending=True, stable=True)[:kept].sort().values.tolist()
    return tuple(combinations(strongest, 2))


def interactions(model: HookedTransformer, task: Task, replacement: Replacement, *, limit: int) -> Interactions:
    """Every head alone, then pairs of heads (`head_pairs`), all with the same replacement."""
    heads = parts.heads(model)
    alone = lost(model, task, heads, replacement)[0]
    chosen = head_pairs(alone.mean(1), limit)
    pairs = [parts.together([heads[index] for index in pair]) for pair in chosen]
    joint = lost(model, task, pairs, replacement)[0] if pairs else torch.zeros(0, alone.shape[1], dtype=torch.float64)
    return Interactions(heads, alone, chosen, joint, len(heads) * (len(heads) - 1) // 2)


def verdict(interaction: Costs, at: int, alone: tuple[float, float]) -> str:
    """In words: what the interval and q of one pair's interaction allow to say, given what each head costs alone."""
    low, high = float(interaction.low[at]), float(interaction.high[at])
    if float(interaction.q[at]) > 0.05 or low <= 0 <= high:
        return "no sign of either"
    if min(alone) < 0:
        return "interact; alone, one does harm"
    return "stand in for each other" if low > 0 else "share a path"
