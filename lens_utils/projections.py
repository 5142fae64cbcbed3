"""Two-dimensional views of a set of vectors: principal components and t-SNE, by scikit-learn, seeded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

PERPLEXITY = 30.0
"""t-SNE's usual neighbourhood size, used where there are enough points."""
MIN_POINTS = 7
"""With fewer points the largest meaningful perplexity, (n - 1) / 3, falls below 2."""


@dataclass(frozen=True)
class PrincipalComponents:
    """Coordinates on the leading components, and how the variance is spread."""

    scores: Float64[Tensor, "sample component"]
    """Each component's sign is chosen so that its largest score in magnitude is positive."""
    shares: Float64[Tensor, " component"]
    """Share of the variance of each component."""
    dimensions: float
    """Participation ratio of the variances, (sum l)^2 / sum l^2: how many components the vectors really use."""


@dataclass(frozen=True)
class Map:
    """A t-SNE map, and the perplexity it was made with."""

    points: Float64[Tensor, "sample 2"]
    perplexity: float


def principal_components(values: Float[Tensor, "sample width"], *, n_components: int = 5) -> PrincipalComponents:
    """Principal components of the rows, centred; fewer where the rows have fewer.

    Raises `ValueError` for a single row or rows that are all equal.
    """
    from sklearn.decomposition import PCA

    data = values.detach().double().cpu().numpy()
    if len(data) < 2 or np.ptp(data, axis=0).max() == 0:
        raise ValueError(f"values of shape {data.shape}: principal components need at least two different rows")
    fitted: Any = PCA(svd_solver="full").fit(data)
    kept = min(n_components, len(fitted.components_))
    scores = (data - fitted.mean_) @ fitted.components_[:kept].T
    leading = np.take_along_axis(scores, np.abs(scores).argmax(axis=0)[None], axis=0)
    scores = scores * np.where(leading < 0, -1.0, 1.0)
    variances = fitted.explained_variance_
    shares = torch.from_numpy(variances[:kept] / variances.sum())
    return PrincipalComponents(torch.from_numpy(scores), shares, float(variances.sum() ** 2 / (variances**2).sum()))


def tsne(values: Float[Tensor, "sample width"], *, seed: int) -> Map:
    """t-SNE of the rows (van der Maaten & Hinton 2008) with perplexity min(30, (n - 1) / 3), started from PCA.

    Raises `ValueError` below MIN_POINTS rows: no neighbourhood would be left to draw.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n = values.shape[0]
    if n < MIN_POINTS:
        raise ValueError(f"values: {n} rows are too few for t-SNE, give at least {MIN_POINTS}")
    perplexity = min(PERPLEXITY, (n - 1) / 3)
    data = values.detach().double().cpu().numpy()
    init = "pca" if min(data.shape) >= 2 else "random"
    # A thousand tiny steps: threads would spend their time waiting for each other
    with threadpool_limits(limits=1):
        points = TSNE(perplexity=perplexity, init=init, random_state=seed, learning_rate="auto").fit_transform(data)
    return Map(torch.from_numpy(points.astype(np.float64)), perplexity)


def token_maps(
    vectors: Mapping[str, Float[Tensor, "sample width"]], *, seed: int
) -> tuple[dict[str, PrincipalComponents], dict[str, Map]]:
    """Principal components and t-SNE of each set of vectors; sets too small or too uniform for one are left out."""
    components, maps = {}, {}
    for label, values in vectors.items():
        if len(values) < 2 or bool((values == values[:1]).all()):
            continue
        components[label] = principal_components(values)
        if len(values) >= MIN_POINTS:
            maps[label] = tsne(values, seed=seed)
    return components, maps
