"""The distribution of a set of activations, exactly, and the same distribution for different texts.

A token's activation is a vector; all its coordinates enter a distribution. Quartiles interpolate linearly (numpy's
default). Kurtosis is excess kurtosis (normal: 0). The participation ratio of a vector x is (sum x^2)^2 / sum x^4: the
number of coordinates that carry it, 1 to the width; a distribution reports its mean over tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lens_utils.statistics import benjamini_hochberg, label_permutation_p_value
from lens_utils.streaming import Moments

QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Distribution:
    """The statistics of one group of values; nan where a statistic is undefined."""

    values: int
    mean: float
    sd: float
    minimum: float
    q1: float
    median: float
    q3: float
    maximum: float
    skewness: float
    excess_kurtosis: float
    negative_share: float
    participation_ratio: float


def participation_ratio(values: Float[Tensor, "sample width"]) -> Float64[Tensor, " sample"]:
    """(sum x^2)^2 / sum x^4 of each row, 1 to width; nan for a row of zeros."""
    squares = values.detach().double().square()
    fourth = squares.square().sum(-1)
    return squares.sum(-1).square() / torch.where(fourth == 0, torch.nan, fourth)


def describe(values: Float[Tensor, "sample width"]) -> Distribution:
    """The exact distribution of all values of the rows (at least one)."""
    moments = Moments.of(values.flatten().unsqueeze(0))
    quartiles = np.quantile(values.detach().double().cpu().numpy(), QUARTILES)
    ratio = participation_ratio(values).nanmean().item()
    return distribution_of(moments, 0, quartiles.tolist(), ratio)


def distribution_of(moments: Moments, group: int, quartiles: Sequence[float], ratio: float) -> Distribution:
    """The statistics of one group from its moments, its quartiles and its mean participation ratio."""
    low, high = float(moments.low[group]), float(moments.high[group])
    # min and max are known exactly: holding a sketched quartile between them can only bring it closer
    q1, median, q3 = (min(max(float(value), low), high) for value in quartiles)
    return Distribution(
        values=int(moments.count[group]),
        mean=float(moments.mean[group]),
        sd=float(moments.sd[group]),
        minimum=low,
        q1=q1,
        median=median,
        q3=q3,
        maximum=high,
        skewness=float(moments.skewness[group]),
        excess_kurtosis=float(moments.excess_kurtosis[group]),
        negative_share=float(moments.negative_share[group]),
        participation_ratio=ratio,
    )


@dataclass(frozen=True)
class Comparison:
    """One text's distribution beside the reference text's."""

    text: int
    distribution: Distribution
    mean_difference: float
    """Mean here minus mean in the reference text."""
    p: float
    """Tokens shuffled between the two texts, two-sided; nan for the reference."""


def compare_texts(
    values: Sequence[Float[Tensor, "_ width"]], *, seed: int, n_shuffles: int = 1000
) -> tuple[Comparison, ...]:
    """Each text's values against the first text's, by the mean over coordinates of each token."""
    means = [each.detach().double().cpu().mean(1) for each in values]
    rows = []
    for text, each in enumerate(values):
        difference = float(means[text].mean() - means[0].mean())
        p = float("nan")
        if text:
            p = label_permutation_p_value(means[text], means[0], seed=seed, n_shuffles=n_shuffles)
        rows.append(Comparison(text, describe(each), difference, p))
    return tuple(rows)


def adjusted(comparisons: Sequence[Comparison]) -> list[float]:
    """Benjamini-Hochberg q of the comparisons' p, over all of them."""
    return benjamini_hochberg(torch.tensor([row.p for row in comparisons], dtype=torch.float64)).tolist()
