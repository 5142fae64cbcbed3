"""Statistics of activations over a stream of texts: overall, by position, by word class, at the first position."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lens_utils.distributions import QUARTILES, Distribution, distribution_of, participation_ratio
from lens_utils.quantities import TokenRows
from lens_utils.streaming import SMALLEST, Extremes, Moments, QuantileSketch, bucket_of
from lens_utils.word_classes import WORD_CLASSES

MAX_POSITIONS = 128
"""Positions with a row of their own; later ones share the last row, so that memory stays bounded."""


@dataclass(frozen=True)
class _Tokens:
    """What is computed once for a batch, however its tokens are grouped."""

    moments: Moments
    buckets: Int[Tensor, "sample width"]
    ratios: Float64[Tensor, " sample"]


class _Grouped:
    """Moments, sketch and participation ratios of the rows of each group."""

    def __init__(self, n_groups: int) -> None:
        self.n_groups = n_groups
        self.moments = Moments.empty(n_groups)
        self.ratios = Moments.empty(n_groups)
        self.sketch = QuantileSketch.empty(n_groups)

    def add(self, tokens: "_Tokens", groups: Tensor) -> None:
        n = self.n_groups
        self.moments = self.moments.merge(tokens.moments.pool(groups, n))
        self.sketch = self.sketch.merge(QuantileSketch.of_buckets(tokens.buckets, groups, n))
        defined = ~tokens.ratios.isnan()
        if defined.any():
            each = Moments.of(tokens.ratios[defined].unsqueeze(-1))
            self.ratios = self.ratios.merge(each.pool(groups[defined], n))

    def total(self) -> "_Grouped":
        whole = _Grouped(1)
        whole.moments, whole.ratios, whole.sketch = self.moments.total(), self.ratios.total(), self.sketch.total()
        return whole

    def distributions(self, exact: tuple[Tensor, Tensor] | None) -> dict[int, Distribution]:
        sketched = torch.stack([self.sketch.quantile(share) for share in QUARTILES], dim=1)
        result = {}
        for group in self.moments.count.nonzero().flatten().tolist():
            quartiles = sketched[group].tolist()
            if exact is not None:
                quartiles = np.quantile(exact[0][exact[1] == group].double().numpy(), QUARTILES).tolist()
            ratio = float(self.ratios.mean[group]) if self.ratios.count[group] else float("nan")
            result[group] = distribution_of(self.moments, group, quartiles, ratio)
        return result


@dataclass(frozen=True)
class FirstPosition:
    """Is the extreme value the first token's? Shares of the first position, kurtosis with and without it."""

    share_of_tokens: float
    share_of_squares: float
    excess_kurtosis: float
    excess_kurtosis_at_first: float
    excess_kurtosis_without_first: float
    texts: int
    texts_with_extreme_at_first: int
    largest_magnitude: float
    text: int
    pos: int
    coordinate: int


class ActivationStatistics:
    """Statistics of one quantity over a stream of batches, in bounded memory.

    Up to `exact_limit` values are kept, and quartiles are then exact; past it they come from the sketch, within
    `streaming.RELATIVE_ERROR`. Everything else is exact either way, to rounding in float64.
    """

    def __init__(self, *, exact_limit: int) -> None:
        self.exact_limit = exact_limit
        self._kept: list[tuple[Tensor, Tensor, Tensor]] | None = []
        self._n_values = 0
        self._positions = _Grouped(MAX_POSITIONS + 1)
        self._classes = _Grouped(len(WORD_CLASSES))
        self._texts = self._extreme_at_first = 0
        self._largest: Extremes | None = None

    def add(self, values: Float[Tensor, "sample width"], rows: TokenRows) -> None:
        """Take in one batch: whole texts, row i of `values` being the token `rows.places[i]`."""
        positions = rows.places[:, 1].clamp(max=MAX_POSITIONS)
        tokens = _Tokens(Moments.of(values), bucket_of(values), participation_ratio(values).cpu())
        self._positions.add(tokens, positions)
        self._classes.add(tokens, rows.classes)
        self._n_values += values.numel()
        if self._n_values > self.exact_limit:
            self._kept = None
        if self._kept is not None:
            self._kept.append((values.detach().cpu(), positions, rows.classes))
        self._add_extremes(values, rows)

    def _add_extremes(self, values: Tensor, rows: TokenRows) -> None:
        size, coordinate = values.abs().max(dim=1)
        size, places = size.cpu(), torch.cat([rows.places, coordinate.cpu().unsqueeze(1)], dim=1)
        largest = Extremes.of(size.unsqueeze(1), places, 1)
        self._largest = largest if self._largest is None else self._largest.merge(largest, 1)
        starts = (rows.places[:, 1] == 0).nonzero().flatten().tolist()
        for start, end in zip(starts, [*starts[1:], len(size)], strict=True):
            self._texts += 1
            self._extreme_at_first += int(size[start:end].argmax() == 0)

    @property
    def is_exact(self) -> bool:
        """Whether quartiles are exact."""
        return self._kept is not None

    def _exact(self, column: int) -> tuple[Tensor, Tensor] | None:
        if not self._kept:
            return None
        return torch.cat([part[0] for part in self._kept]), torch.cat([part[column] for part in self._kept])

    def overall(self) -> Distribution:
        """The distribution of all values."""
        whole = self._classes.total()
        exact = self._exact(1)
        return whole.distributions(None if exact is None else (exact[0], torch.zeros_like(exact[1])))[0]

    def sketched(self) -> tuple[Distribution, QuantileSketch]:
        """The distribution with sketched quartiles even where exact ones exist, and the sketch itself."""
        whole = self._classes.total()
        return whole.distributions(None)[0], whole.sketch

    def streaming_errors(self) -> tuple[float, float] | None:
        """What streaming costs, where all values were kept: errors of the moments and of the sketched quartiles.

        Moments: difference of means and of standard deviations, in standard deviations. Quartiles: relative to the
        interpolated magnitudes of the two neighbouring values.
        """
        exact = self._exact(1)
        if exact is None:
            return None
        values = np.sort(exact[0].double().numpy(), axis=None)
        sketched, sketch = self.sketched()
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        gap = abs(sketched.mean - values.mean()) + (abs(sketched.sd - spread) if len(values) > 1 else 0.0)
        worst = 0.0
        for share in QUARTILES:
            rank = share * (len(values) - 1)
            low, high = values[int(np.floor(rank))], values[int(np.ceil(rank))]
            part = rank - np.floor(rank)
            scale = (1 - part) * abs(low) + part * abs(high)
            error = abs(float(sketch.quantile(share)[0]) - float(np.quantile(values, share)))
            worst = max(worst, max(error - SMALLEST, 0.0) / max(scale, SMALLEST))
        return float(gap) / (spread or 1.0), float(worst)

    def by_position(self) -> dict[int, Distribution]:
        """Position -> distribution; key MAX_POSITIONS holds all later positions."""
        return self._positions.distributions(self._exact(1))

    def by_class(self) -> dict[str, Distribution]:
        """Word class -> distribution, for the classes that occur."""
        groups = self._classes.distributions(self._exact(2))
        return {WORD_CLASSES[group]: distribution for group, distribution in groups.items()}

    def first_position(self) -> FirstPosition:
        """How much of the extreme belongs to the first position."""
        moments = self._positions.moments
        later = Moments(*(getattr(moments, name)[1:] for name in moments.__dataclass_fields__)).total()
        squares = moments.sum_of_squares
        total = float(squares.sum())
        assert self._largest is not None
        text, pos, coordinate = self._largest.places[0, 0].tolist()
        return FirstPosition(
            share_of_tokens=float(moments.count[0] / moments.count.sum()),
            share_of_squares=float(squares[0]) / total if total else float("nan"),
            excess_kurtosis=float(moments.total().excess_kurtosis[0]),
            excess_kurtosis_at_first=float(moments.excess_kurtosis[0]),
            excess_kurtosis_without_first=float(later.excess_kurtosis[0]),
            texts=self._texts,
            texts_with_extreme_at_first=self._extreme_at_first,
            largest_magnitude=float(self._largest.values[0, 0]),
            text=text,
            pos=pos,
            coordinate=coordinate,
        )
