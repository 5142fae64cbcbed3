"""Do two scores of neurons go together?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils.statistics import Interval, average_ranks, bootstrap_interval, p_value


@dataclass(frozen=True)
class Link:
    """Spearman correlation over the neurons of a block."""

    r: Interval
    """With a bootstrap interval over neurons; nan without spread."""
    p: float
    """Two-sided, neurons of one side shuffled."""


def rank_link(
    one: Float64[Tensor, " unit"], other: Float64[Tensor, " unit"], *, seed: int, n_shuffles: int = 1000
) -> Link:
    """Spearman correlation of two scores over units, its bootstrap interval and its p by shuffling."""
    ranks = average_ranks(torch.stack([one, other], dim=1)).numpy()
    if (ranks == ranks[0]).all(axis=0).any():
        return Link(Interval(float("nan"), float("nan"), float("nan")), float("nan"))

    def correlation(units: np.ndarray, axis: int = -1) -> Any:
        chosen = ranks[units.astype(np.int64)]
        left, right = np.moveaxis(chosen - chosen.mean(axis=-2, keepdims=True), -1, 0)
        return (left * right).sum(-1) / np.sqrt((left**2).sum(-1) * (right**2).sum(-1)).clip(1e-300)

    interval = bootstrap_interval(
        torch.arange(len(ranks), dtype=torch.float64), seed=seed, statistic=correlation, n_resamples=1000
    )
    rng = np.random.default_rng(seed)
    centred = ranks - ranks.mean(0)
    mixed = np.stack([rng.permutation(centred[:, 0]) for _ in range(n_shuffles)])
    null = mixed @ centred[:, 1] / np.sqrt((centred**2).sum(0).prod())
    return Link(interval, p_value(interval.estimate, torch.from_numpy(null)))
