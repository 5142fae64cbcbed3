"""What a part puts out instead: nothing, its mean, its value on another prompt, or a change in a random direction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_utils.prompt_pairs import PromptPair, roles

KINDS = ("zero", "mean", "resample", "corrupted")
"""Ways to take a part out; `corrupted` needs pairs of prompts."""
NULL = "random"
"""The null: the output moves as far as in mean ablation, at each position, but in a random direction."""


@dataclass(frozen=True)
class Replacement:
    """Values that stand in for a part's own."""

    values: Mapping[str, Float[Tensor, "..."]] = field(repr=False)
    """Hook -> values that broadcast to [batch, pos, ...]."""
    turns: Mapping[str, tuple[Int[Tensor, " width"], Float[Tensor, " width"]]] = field(default_factory=dict, repr=False)
    """Hook -> order of the last axis, and signs: instead of going to the values, go as far in the turned direction."""

    def applied(self, hook: str, current: Float[Tensor, "..."], given: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """What stands in for `current`, where `given` are the values at its positions."""
        if hook not in self.turns:
            return given
        order, signs = (each.to(current.device) for each in self.turns[hook])
        return current + (given - current)[..., order] * signs.to(current)


Source = tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]
"""For each position of each prompt: (prompt, position) whose value stands in; -1 where there is none."""


def zero(shapes: Mapping[str, Tensor]) -> Replacement:
    """Zeros in the shape of one position's values."""
    return Replacement({hook: torch.zeros_like(value[:1, :1]) for hook, value in shapes.items()})


def mean(means: Mapping[str, Tensor]) -> Replacement:
    """The mean over the reference tokens at every position."""
    return Replacement({hook: value[None, None] for hook, value in means.items()})


def turned(means: Mapping[str, Tensor], generator: torch.Generator) -> Replacement:
    """The change of mean ablation, its coordinates shuffled and their signs drawn anew: same length, no meaning."""
    turns = {}
    for hook, value in means.items():
        width = value.shape[-1]
        signs = torch.randint(0, 2, (width,), generator=generator).double() * 2 - 1
        turns[hook] = (torch.randperm(width, generator=generator), signs)
    return Replacement(mean(means).values, turns)


def taken_from(values: Mapping[str, Tensor], source: Source, means: Mapping[str, Tensor]) -> Replacement:
    """The value at another place of the same or another run; the mean where the source has none."""
    prompt, pos = source
    known = prompt >= 0
    taken = {}
    for hook, value in values.items():
        device = value.device
        found = value[prompt.clamp(min=0).to(device), pos.clamp(min=0).to(device)]
        shape = (*known.shape, *(1,) * (found.ndim - 2))
        taken[hook] = torch.where(known.view(shape).to(device), found, means[hook].to(found))
    return Replacement(taken)


def corrupted_source(pairs: Sequence[PromptPair]) -> Source:
    """For each position of the clean prompts the aligned position of the pair's own corrupted prompt."""
    prompt, pos = _nowhere(len(pairs), max(len(pair.clean) for pair in pairs))
    for row, pair in enumerate(pairs):
        for here, there in pair.aligned:
            prompt[row, here], pos[row, here] = row, there
    return prompt, pos


def role_source(pairs: Sequence[PromptPair], generator: torch.Generator) -> Source:
    """For each position of the clean prompts one of the same role in another pair's clean prompt.

    Every pair takes from one other, never from itself. Of several positions of that role the one at the nearest
    distance to the end is taken; a role that the other prompt does not have has no source.
    """
    named = [roles(pair) for pair in pairs]
    prompt, pos = _nowhere(len(pairs), max(len(pair.clean) for pair in pairs))
    for row, other in enumerate(_others(len(pairs), generator)):
        ends = pairs[row].clean_end, pairs[other].clean_end
        for here, role in enumerate(named[row]):
            alike = [there for there, name in enumerate(named[other]) if name == role]
            if alike:
                nearest = min(alike, key=lambda there: abs((there - ends[1]) - (here - ends[0])))
                prompt[row, here], pos[row, here] = other, nearest
    return prompt, pos


def position_source(mask: Bool[Tensor, "batch pos"], generator: torch.Generator) -> Source:
    """For each position of each text the same position of another one, the first long enough in a random order."""
    prompt, pos = _nowhere(*mask.shape)
    for row in range(len(mask)):
        order = [other for other in torch.randperm(len(mask), generator=generator).tolist() if other != row]
        for other in reversed(order):
            prompt[row, mask[other]] = other
    here = torch.arange(mask.shape[1]).expand_as(prompt)
    return prompt, torch.where(prompt >= 0, here, pos)


def missing_share(source: Source, mask: Bool[Tensor, "batch pos"]) -> float:
    """Share of real positions that take the mean because they have no source."""
    return float((source[0][mask] < 0).double().mean())


def _nowhere(batch: int, n_pos: int) -> Source:
    return torch.full((batch, n_pos), -1), torch.full((batch, n_pos), -1)


def _others(n: int, generator: torch.Generator) -> list[int]:
    """For each of n another one: neighbours in a random circle."""
    circle = torch.randperm(n, generator=generator).tolist()
    after = dict(zip(circle, [*circle[1:], circle[0]], strict=True))
    return [after[index] for index in range(n)]
