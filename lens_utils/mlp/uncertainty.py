"""What stands beside activation statistics: intervals over tokens or texts, and a null model of shuffled weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lens_utils.activations import cache_hooks
from lens_utils.distributions import Distribution, describe
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.mlp.study import split_texts
from lens_utils.null_models import shuffled_weights
from lens_utils.prompts import TokenizedText
from lens_utils.quantities import Quantity
from lens_utils.statistics import Interval, bootstrap_interval

TEXTS_AS_UNITS = 8
"""From this many texts on, texts are resampled in the bootstrap; with fewer, tokens are."""


def intervals(
    values: Float[Tensor, "sample width"], texts: Sequence[TokenizedText], *, seed: int
) -> dict[str, Interval]:
    """95 % intervals of `mean` and `excess_kurtosis` of all values; texts are resampled, or tokens when texts are few.

    Tokens of one text are not independent: an interval over tokens is too narrow by an unknown amount.
    """
    centred = values.double().cpu()
    shift = float(centred.mean())
    centred = centred - shift
    ones = torch.full((len(centred),), float(centred.shape[1]), dtype=torch.float64)
    sums = torch.stack([ones, *(centred.pow(power).sum(1) for power in (1, 2, 3, 4))], dim=1)
    if len(texts) >= TEXTS_AS_UNITS:
        sums = torch.stack([part.sum(0) for part in split_texts(sums, texts)])
    table = sums.numpy()

    def raw_moments(units: np.ndarray) -> Any:
        total = table[units.astype(np.int64)].sum(axis=-2)
        return total[..., 1:] / total[..., :1]

    def mean(units: np.ndarray, axis: int = -1) -> Any:
        return raw_moments(units)[..., 0] + shift

    def kurtosis(units: np.ndarray, axis: int = -1) -> Any:
        m1, m2, m3, m4 = np.moveaxis(raw_moments(units), -1, 0)
        variance = m2 - m1**2
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        return fourth / np.maximum(variance, np.finfo(np.float64).tiny) ** 2 - 3

    units = torch.arange(len(table), dtype=torch.float64)
    return {
        "mean": bootstrap_interval(units, seed=seed, statistic=mean, n_resamples=1000),
        "excess_kurtosis": bootstrap_interval(units, seed=seed, statistic=kurtosis, n_resamples=1000),
    }


def null_distributions(
    model: HookedTransformer, texts: Sequence[TokenizedText], quantities: Sequence[Quantity], *, seed: int
) -> dict[str, Distribution]:
    """The quantities in `shuffled_weights(model)` on the same texts (with the real model's final gain and bias)."""
    batch = cache_hooks(shuffled_weights(model, seed=seed), texts, [quantity.hook for quantity in quantities])
    return {quantity.label: describe(quantity.of(batch)) for quantity in quantities}
