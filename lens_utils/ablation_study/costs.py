"""What speaks for a cost: interval over prompts, sign flips, correction over parts, spread between draws."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils.statistics import benjamini_hochberg, bootstrap_interval, sign_flip_p_values

N_SHUFFLES = 9999
"""Sign flips of one test."""


@dataclass(frozen=True)
class Costs:
    """Mean cost of each of several ablations."""

    mean: Float64[Tensor, " part"]
    low: Float64[Tensor, " part"]
    """Ends of the 95 % interval, prompts resampled."""
    high: Float64[Tensor, " part"]
    q: Float64[Tensor, " part"]
    """p of the mean when each prompt's cost may change its sign, Benjamini-Hochberg over the parts."""
    spread: Float64[Tensor, " part"]
    """Standard deviation of the mean between draws; nan for a single draw."""


def judge(values: Float64[Tensor, "draw part unit"], *, seed: int) -> Costs:
    """The costs of several parts on the same units (prompts), which are averaged over draws first."""
    if values.shape[1] == 0:
        return Costs(*(torch.zeros(0, dtype=torch.float64),) * 5)
    each = values.mean(0)
    bounds = [bootstrap_interval(part, seed=seed) for part in each]
    q = benjamini_hochberg(sign_flip_p_values(each.T, seed=seed, n_shuffles=N_SHUFFLES))
    low, high = (torch.tensor([getattr(one, end) for one in bounds], dtype=torch.float64) for end in ("low", "high"))
    draws = values.mean(-1)
    spread = draws.std(0) if len(draws) > 1 else torch.full((len(each),), torch.nan, dtype=torch.float64)
    return Costs(each.mean(1), low, high, q, spread)
