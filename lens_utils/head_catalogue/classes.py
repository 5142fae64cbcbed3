"""Which class each head belongs to, by attention, by what it writes, and by what it does to others.

A head may have several labels; `none` is an answer. Every rule is about the ends of 95 % intervals over prompts.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils.head_catalogue.measures import NAMES, HeadMeasures
from lens_utils.statistics import ratio_intervals

LOOKING = 0.25
"""Least attention (lower end) for a head to be said to look somewhere; also twice what a uniform head reads."""
WRITING = 0.5
"""Least direct effect in nats (nearer end) on the logit of the name a head looks at."""
COPYING = 0.5
"""Least share of prompts on which the name is copied, or opposed."""
CLASSES = {
    "name mover": "END looks at a name, and the head raises that name's logit and copies it",
    "negative name mover": "END looks at a name, and the head lowers that name's logit and opposes it",
    "S-inhibition": "END looks at S2, and the queries of a name mover of either sign read the head",
    "duplicate token": "S2 looks at S1",
    "induction": "S2 looks at the token after S1",
    "previous token": "the token after S1 looks at S1",
    "current token": "S2 looks at itself",
    "backup": "with the movers taken out, the head adds more to the logit difference than before",
}
"""Name -> rule in words."""


PUBLISHED_GPT2_SMALL = {
    "name mover": "L9H9 L10H0 L9H6",
    "negative name mover": "L10H7 L11H10",
    "S-inhibition": "L7H3 L7H9 L8H6 L8H10",
    "duplicate token": "L0H1 L0H10 L3H0",
    "induction": "L5H1 L5H5 L6H9 L7H2 L7H10",
    "previous token": "L2H2 L4H11",
}
"""Heads of gpt2-small by class: Wang et al. 2022, figure 2; induction heads also by TransformerLens' demo."""


@dataclass(frozen=True)
class Bounds:
    """A mean over prompts and its 95 % bootstrap interval, for every head."""

    mean: Float64[Tensor, "layer head"]
    low: Float64[Tensor, "layer head"]
    high: Float64[Tensor, "layer head"]

    @classmethod
    def of(cls, values: Float64[Tensor, "pair layer head"], *, seed: int, over: Tensor | None = None) -> "Bounds":
        """Of the mean, or (`over`: one number a prompt) of the ratio of means."""
        wholes = torch.ones(len(values)) if over is None else over
        mean, low, high = ratio_intervals(values.flatten(1), wholes, seed=seed)
        return cls(*(each.reshape(values.shape[1:]) for each in (mean, low, high)))

    def at_least(self, least: float | Tensor) -> Tensor:
        """Whether the whole interval lies at or above `least`."""
        return self.low >= least


@dataclass(frozen=True)
class HeadScores:
    """Intervals of all that the rules ask for."""

    looks: dict[str, Bounds]
    uniform: dict[str, float]
    direct: tuple[Bounds, Bounds, Bounds]
    """On the logits of IO and S over the mean logit, and on their difference."""
    copies: Float64[Tensor, "layer head 3"]
    """Share of prompts on which the head copies IO, S1, S2."""
    opposes: Float64[Tensor, "layer head 3"]


def score_heads(measures: HeadMeasures, *, seed: int) -> HeadScores:
    """Means and intervals over prompts."""
    return HeadScores(
        {name: Bounds.of(values, seed=seed) for name, values in measures.attention.items()},
        {name: float(values.mean()) for name, values in measures.uniform.items()},
        tuple(Bounds.of(measures.direct[..., at], seed=seed) for at in range(3)),  # type: ignore[arg-type]
        measures.copies.double().mean(0),
        measures.opposes.double().mean(0),
    )


def looks(scores: HeadScores, name: str) -> Tensor:
    """[layer, head]: whether heads look from one place to another, well above a uniform head."""
    return scores.looks[name].at_least(max(LOOKING, 2 * scores.uniform[name]))


def movers(scores: HeadScores) -> tuple[Tensor, Tensor]:
    """[layer, head] each: name movers and negative name movers."""
    moves = opposes = torch.zeros(scores.copies.shape[:2], dtype=torch.bool)
    for at, name in enumerate(NAMES):
        effect, there = scores.direct[0 if name == "io" else 1], looks(scores, f"end_to_{name}")
        moves = moves | (there & (effect.low >= WRITING) & (scores.copies[..., at] >= COPYING))
        opposes = opposes | (there & (effect.high <= -WRITING) & (scores.opposes[..., at] >= COPYING))
    return moves, opposes
