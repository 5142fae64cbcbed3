"""Statistics of a stream in one pass and bounded memory: mergeable moments, quantiles, extreme tokens.

Everything here is held per group (a position, a word class, ...), lives on the CPU in float64 or int64, and merges.
"""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

RELATIVE_ERROR = 0.01
"""A sketched quantile lies within 1 % of the true one."""
SMALLEST = 1e-9
"""Magnitudes up to this count as 0 in the sketch (an absolute error of at most 1e-9)."""
LARGEST = 1e9
"""Larger magnitudes are refused: the sketch could not keep its stated error."""
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_BUCKETS_A_SIGN = math.ceil(math.log(LARGEST / SMALLEST) / math.log(_GAMMA)) + 1
N_BUCKETS = 2 * _BUCKETS_A_SIGN + 1


@dataclass(frozen=True)
class Moments:
    """Counts, extremes and central sums of groups of values; `m2` is the sum of squared deviations, and so on.

    Merging follows Chan et al. 1979 and Pebay 2008, in float64: no cancellation when the mean is large. Merging in
    another order changes only the last bits.
    """

    count: Int[Tensor, "*group"]
    negatives: Int[Tensor, "*group"]
    mean: Float64[Tensor, "*group"]
    m2: Float64[Tensor, "*group"]
    m3: Float64[Tensor, "*group"]
    m4: Float64[Tensor, "*group"]
    low: Float64[Tensor, "*group"]
    high: Float64[Tensor, "*group"]

    @classmethod
    def of(cls, values: Float[Tensor, "*group sample"]) -> "Moments":
        """Moments along the last axis (at least one value each)."""
        if values.shape[-1] == 0:
            raise ValueError(f"values of shape {tuple(values.shape)}: the last axis is empty")
        exact = values.detach().double()
        mean = exact.mean(-1)
        deviation = exact - mean.unsqueeze(-1)
        squared = deviation.square()
        parts = (
            torch.full(mean.shape, values.shape[-1], dtype=torch.long),
            (exact < 0).sum(-1),
            mean,
            squared.sum(-1),
            (squared * deviation).sum(-1),
            squared.square().sum(-1),
            exact.amin(-1),
            exact.amax(-1),
        )
        return cls(*(part.cpu() for part in parts))

    @classmethod
    def empty(cls, n_groups: int) -> "Moments":
        """No values yet in any of `n_groups` groups."""
        zeros = torch.zeros(n_groups, dtype=torch.float64)
        counts = torch.zeros(n_groups, dtype=torch.long)
        return cls(counts, counts, zeros, zeros, zeros, zeros, zeros + math.inf, zeros - math.inf)

    def pool(self, groups: Int[Tensor, " group"], n_groups: int) -> "Moments":
        """Merge these groups into `n_groups` coarser ones: group i goes to `groups[i]`."""

        def add(values: Tensor) -> Tensor:
            return torch.zeros(n_groups, dtype=values.dtype).index_add(0, groups, values)

        def extreme(values: Tensor, reduce: str, start: float) -> Tensor:
            return torch.full((n_groups,), start, dtype=torch.float64).scatter_reduce(0, groups, values, reduce)

        weight = self.count.double()
        mean = add(weight * self.mean) / add(weight).clamp(min=1)
        gap = self.mean - mean[groups]
        m2 = add(self.m2 + weight * gap**2)
        m3 = add(self.m3 + 3 * gap * self.m2 + weight * gap**3)
        m4 = add(self.m4 + 4 * gap * self.m3 + 6 * gap**2 * self.m2 + weight * gap**4)
        low, high = extreme(self.low, "amin", math.inf), extreme(self.high, "amax", -math.inf)
        return Moments(add(self.count), add(self.negatives), mean, m2, m3, m4, low, high)

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of values, group by group."""
        n = self.count.numel()
        if self.count.shape != other.count.shape or self.count.ndim != 1:
            raise ValueError(f"groups {tuple(self.count.shape)} and {tuple(other.count.shape)} do not match")
        both = Moments(*(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))
        return both.pool(torch.arange(n).repeat(2), n)

    def total(self) -> "Moments":
        """All groups as one, `[1]`."""
        flat = Moments(*(getattr(self, f.name).flatten() for f in fields(self)))
        return flat.pool(torch.zeros(flat.count.numel(), dtype=torch.long), 1)

    @property
    def sd(self) -> Float64[Tensor, "*group"]:
        """Standard deviation with n - 1 (torch's default); nan below two values."""
        return (self.m2 / torch.where(self.count > 1, self.count - 1, torch.nan)).sqrt()

    @property
    def skewness(self) -> Float64[Tensor, "*group"]:
        """Third standardised moment, population form; nan when all values are equal."""
        return _ratio(self.count.double().sqrt() * self.m3, self.m2**1.5)

    @property
    def excess_kurtosis(self) -> Float64[Tensor, "*group"]:
        """Fourth standardised moment minus 3, population form (normal: 0); nan when all values are equal."""
        return _ratio(self.count * self.m4, self.m2.square()) - 3

    @property
    def negative_share(self) -> Float64[Tensor, "*group"]:
        """Share of values below 0; nan without values."""
        return _ratio(self.negatives.double(), self.count.double())

    @property
    def sum_of_squares(self) -> Float64[Tensor, "*group"]:
        """Sum of the squared values (not centred)."""
        return self.m2 + self.count * self.mean.square()


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    return top / torch.where(bottom == 0, torch.nan, bottom)


@dataclass(frozen=True)
class QuantileSketch:
    """Quantiles of groups of values from counts in logarithmic buckets (DDSketch, Masson et al. 2019), as a tensor.

    Every order statistic comes back within `RELATIVE_ERROR` of itself. Bucket `_BUCKETS_A_SIGN` holds zeros; bucket
    k above it holds (SMALLEST gamma^(k-1), SMALLEST gamma^k], gamma = (1 + e) / (1 - e); negatives mirror it.
    Merging is addition of integers: the same in any order, to the last bit.
    """

    counts: Int[Tensor, "group bucket"]

    @classmethod
    def empty(cls, n_groups: int) -> "QuantileSketch":
        """No values yet in any of `n_groups` groups."""
        return cls(torch.zeros(n_groups, N_BUCKETS, dtype=torch.long))

    @classmethod
    def of(
        cls, values: Float[Tensor, "sample width"], groups: Int[Tensor, " sample"], n_groups: int
    ) -> "QuantileSketch":
        """Sketch of the rows of `values`, row i in group `groups[i]`. Raises `ValueError` beyond `LARGEST` or nan."""
        return cls.of_buckets(bucket_of(values), groups, n_groups)

    @classmethod
    def of_buckets(
        cls, buckets: Int[Tensor, "sample width"], groups: Int[Tensor, " sample"], n_groups: int
    ) -> "QuantileSketch":
        """The same from `bucket_of(values)`, for values that are grouped in more than one way."""
        cells = (buckets + groups.to(buckets.device).unsqueeze(-1) * N_BUCKETS).flatten()
        return cls(torch.bincount(cells, minlength=n_groups * N_BUCKETS).reshape(n_groups, N_BUCKETS).cpu())

    def merge(self, other: "QuantileSketch") -> "QuantileSketch":
        """The sketch of both sets of values, group by group."""
        return QuantileSketch(self.counts + other.counts)

    def total(self) -> "QuantileSketch":
        """All groups as one, `[1, bucket]`."""
        return QuantileSketch(self.counts.sum(0, keepdim=True))

    def quantile(self, share: float) -> Float64[Tensor, " group"]:
        """The value below which `share` of the values lie, interpolated between neighbours as numpy does.

        Error: at most 1 % of the neighbours' interpolated magnitudes. nan for an empty group.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share={share!r}: must lie in [0, 1]")
        reached = self.counts.cumsum(1)
        rank = share * (reached[:, -1:] - 1).clamp(min=0)
        below = rank.floor()
        values = bucket_values()
        ranks = torch.cat([below, rank.ceil()], dim=1).long() + 1
        neighbours = values[torch.searchsorted(reached, ranks).clamp(max=N_BUCKETS - 1)]
        result = neighbours[:, 0] + (rank - below)[:, 0] * (neighbours[:, 1] - neighbours[:, 0])
        return torch.where(reached[:, -1] > 0, result, torch.nan)

    def histogram(self, edges: Float64[Tensor, " edge"]) -> Int[Tensor, "group bin"]:
        """Counts between consecutive `edges`; what lies outside is counted in the first and the last bin.

        A value within 1 % of an edge may be counted on its other side.
        """
        bins = (torch.searchsorted(edges, bucket_values()) - 1).clamp(0, edges.numel() - 2)
        empty = torch.zeros(self.counts.shape[0], edges.numel() - 1, dtype=torch.long)
        return empty.index_add(1, bins, self.counts)


def bucket_of(values: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """The sketch's bucket of every value."""
    exact = values.detach().double()
    magnitude = exact.abs()
    if magnitude.numel() and not float(magnitude.max()) <= LARGEST:  # also catches nan
        raise ValueError(f"values: magnitudes must be finite and at most {LARGEST:g}; got {float(magnitude.max())}")
    key = torch.ceil(torch.log(magnitude.clamp(min=SMALLEST) / SMALLEST) / math.log(_GAMMA))
    return (_BUCKETS_A_SIGN + torch.sign(exact) * key).long()


def bucket_values() -> Float64[Tensor, " bucket"]:
    """The value that stands for each bucket, ascending: within `RELATIVE_ERROR` of everything in it."""
    keys = torch.arange(1, _BUCKETS_A_SIGN + 1, dtype=torch.float64)
    positive = SMALLEST * torch.exp(keys * math.log(_GAMMA)) * 2 / (1 + _GAMMA)
    return torch.cat([-positive.flip(0), torch.zeros(1, dtype=torch.float64), positive])


@dataclass(frozen=True)
class Extremes:
    """The k largest values of each column so far; `places[column, rank] = (text, pos, tag)` says where they were."""

    values: Float[Tensor, "column rank"]
    places: Int[Tensor, "column rank 3"]

    @classmethod
    def of(cls, values: Float[Tensor, "sample column"], places: Int[Tensor, "sample 3"], k: int) -> "Extremes":
        """The k largest of each column (fewer when there are fewer samples); smallest: pass `-values`."""
        top = values.detach().topk(min(k, values.shape[0]), dim=0)
        return cls(top.values.T.cpu(), places[top.indices.T.cpu()])

    def merge(self, other: "Extremes", k: int) -> "Extremes":
        """The k largest of both, each column."""
        values = torch.cat([self.values, other.values], dim=1)
        places = torch.cat([self.places, other.places], dim=1)
        top = values.topk(min(k, values.shape[1]), dim=1)
        return Extremes(top.values, places.gather(1, top.indices.unsqueeze(-1).expand(-1, -1, 3)))
