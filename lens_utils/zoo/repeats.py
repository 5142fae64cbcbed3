"""Random tokens that repeat: the data on which induction heads form, and on which they are scored."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_FRESH_WEIGHT = 0.05


@dataclass(frozen=True)
class Repeats:
    """Rows of repeated segments, and the weight of each token's loss: small where it cannot be foreseen."""

    tokens: Int[Tensor, "batch pos"]
    weights: Float[Tensor, "batch pos"]


def varied_repeats(words: Int[Tensor, "words"], n: int, width: int, first: int, generator: torch.Generator) -> Repeats:
    """n rows of `width` tokens that start with `first`; prefix, period, gaps and number of copies all vary.

    With these varied no fixed distance foretells the next token, only an earlier occurrence of the current one does.
    """
    tokens = words[torch.randint(0, len(words), (n, width), generator=generator)]
    weights = torch.full((n, width), _FRESH_WEIGHT)
    tokens[:, 0] = first
    for row in range(n):
        period = _between(4, max(5, width // 2), generator)
        segment = words[torch.randint(0, len(words), (period,), generator=generator)]
        at = 1 + _between(0, width // 4, generator)
        gaps = bool(torch.rand((), generator=generator) < 0.5)
        copies = 0
        while at < width:
            part = segment[: width - at]
            tokens[row, at : at + period] = part
            if copies:
                weights[row, at + int(gaps) : at + period] = 1.0
            copies += 1
            at += period + (_between(0, 6, generator) if gaps else 0)
    return Repeats(tokens, weights)


def twice(
    words: Int[Tensor, "words"], n: int, half: int, first: int, generator: torch.Generator
) -> Int[Tensor, "batch pos"]:
    """n rows: `first`, then `half` random tokens, then the same again; within a row they differ if `words` suffice."""
    if len(words) < half:
        segment = words[torch.randint(0, len(words), (n, half), generator=generator)]
    else:
        segment = words[torch.stack([torch.randperm(len(words), generator=generator)[:half] for _ in range(n)])]
    return torch.cat([torch.full((n, 1), first), segment, segment], dim=1)


def _between(low: int, high: int, generator: torch.Generator) -> int:
    """A random whole number from low to high - 1."""
    return int(torch.randint(low, high, (), generator=generator))
