"""Neurons: the tokens that drive them, the word classes they react to, the attention heads they go with.

Class reactions and head correlations compare ranks, not values: activations are heavy-tailed, and ranks without ties
have the same null distribution for every neuron, so that the shuffles of all neurons may be pooled. The first position
of each text is left out of both: its activations are extreme whatever the token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from lens_utils.prompts import TokenizedText
from lens_utils.statistics import average_ranks, benjamini_hochberg, pooled_p_values
from lens_utils.streaming import Extremes

HEAD_FEATURES = ("first", "previous", "current", "entropy")
"""Attention of a query row to position 0, to the position before, to itself; entropy of the row in nats."""
MIN_CLASS_TOKENS = 3
"""Classes with fewer tokens, inside or outside, are not tested."""


@dataclass(frozen=True)
class ExtremeToken:
    """A token at which a neuron (or a whole activation vector) is largest or smallest."""

    column: int
    value: float
    token: str
    text: int
    pos: int
    coordinate: int
    context: str


class TokenExtremes:
    """The k highest and lowest values of each column over a stream of texts, with the texts they occur in."""

    def __init__(self, k: int) -> None:
        self.k = k
        self._high: Extremes | None = None
        self._low: Extremes | None = None
        self._texts: dict[int, TokenizedText] = {}

    def add(
        self,
        values: Float[Tensor, "sample column"],
        places: Int[Tensor, "sample 3"],
        texts: Sequence[TokenizedText],
    ) -> None:
        """Take in a batch; `places` are (text, pos, coordinate)."""
        self._take(Extremes.of(values, places, self.k), Extremes.of(-values, places, self.k), texts)

    def add_ends(
        self,
        values: Float[Tensor, "sample width"],
        places: Int[Tensor, "sample 2"],
        texts: Sequence[TokenizedText],
    ) -> None:
        """Take in a batch of vectors as one column: of each only its largest and its smallest coordinate."""
        ends = []
        for end in (values.max(dim=1), (-values).max(dim=1)):
            there = torch.cat([places, end.indices.unsqueeze(1)], dim=1)
            ends.append(Extremes.of(end.values.unsqueeze(1), there, self.k))
        self._take(ends[0], ends[1], texts)

    def _take(self, high: Extremes, low: Extremes, texts: Sequence[TokenizedText]) -> None:
        self._high = high if self._high is None else self._high.merge(high, self.k)
        self._low = low if self._low is None else self._low.merge(low, self.k)
        known = self._texts | {text.index: text for text in texts}
        # Only texts still referred to are kept, so that memory does not grow with the stream
        used = torch.cat([self._high.places[..., 0].flatten(), self._low.places[..., 0].flatten()]).unique().tolist()
        self._texts = {index: known[index] for index in used}

    @property
    def texts(self) -> dict[int, TokenizedText]:
        """The texts that hold an extreme, by index."""
        return dict(self._texts)

    def highest(self, column: int) -> tuple[ExtremeToken, ...]:
        """The k highest, highest first."""
        return self._tokens(self._high, column, 1.0)

    def lowest(self, column: int) -> tuple[ExtremeToken, ...]:
        """The k lowest, lowest first."""
        return self._tokens(self._low, column, -1.0)

    def _tokens(self, extremes: Extremes | None, column: int, sign: float) -> tuple[ExtremeToken, ...]:
        if extremes is None:
            return ()
        found = []
        for value, place in zip(extremes.values[column].tolist(), extremes.places[column].tolist(), strict=True):
            index, pos, coordinate = place
            text = self._texts[index]
            token, context = text.strings[pos], text.context(pos)
            found.append(ExtremeToken(column, sign * value, token, index, pos, coordinate, context))
        return tuple(found)


@dataclass(frozen=True)
class ClassReactions:
    """How strongly each neuron tells a word class from the other tokens."""

    classes: tuple[str, ...]
    tokens: tuple[int, ...]
    """Tokens of each class."""
    effect: Float64[Tensor, "word_class neuron"]
    """Rank-biserial correlation 2 AUC - 1: 1 when every token of the class is above every other one, -1 below."""
    cohens_d: Float64[Tensor, "word_class neuron"]
    """Difference of means over the pooled standard deviation."""
    p: Float64[Tensor, "word_class neuron"]
    """Class labels shuffled over tokens, two-sided, pooled over neurons."""
    q: Float64[Tensor, "word_class neuron"]
    """p corrected over neurons and classes (Benjamini-Hochberg)."""


def class_reactions(
    values: Float[Tensor, "sample neuron"], classes: Sequence[str], *, seed: int, n_shuffles: int = 200
) -> ClassReactions:
    """Effect of each word class (with enough tokens) on each neuron, against shuffled labels."""
    names = [name for name in dict.fromkeys(classes) if _enough(classes, name)]
    inside = torch.tensor([[each == name for each in classes] for name in names], dtype=torch.bool)
    inside = inside.reshape(len(names), len(classes))
    if not names:
        none = torch.zeros(0, values.shape[1], dtype=torch.float64)
        return ClassReactions((), (), none, none, none, none)
    ranks = average_ranks(values)
    effect = rank_biserial(ranks, inside)
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(len(classes), generator=generator) for _ in range(n_shuffles)])
    p = torch.stack(
        [pooled_p_values(effect[row], [rank_biserial(ranks, inside[row][orders])]) for row in range(len(names))]
    )
    counts = tuple(inside.sum(1).tolist())
    return ClassReactions(tuple(names), counts, effect, _cohens_d(values, inside), p, benjamini_hochberg(p))


def _enough(classes: Sequence[str], name: str) -> bool:
    n = sum(each == name for each in classes)
    return min(n, len(classes) - n) >= MIN_CLASS_TOKENS


def rank_biserial(
    ranks: Float64[Tensor, "sample neuron"], inside: Bool[Tensor, "group sample"]
) -> Float64[Tensor, "group neuron"]:
    """2 U / (n m) - 1 of the tokens inside each group against those outside (Wendt 1972)."""
    n = inside.sum(1, keepdim=True).double()
    outside = inside.shape[1] - n
    u = inside.double() @ ranks - n * (n + 1) / 2
    return 2 * u / (n * outside) - 1


def _cohens_d(values: Tensor, inside: Tensor) -> Float64[Tensor, "word_class neuron"]:
    rows = []
    for chosen in inside:
        one, other = values[chosen].double().cpu(), values[~chosen].double().cpu()
        freedom = len(one) + len(other) - 2
        pooled = ((one.var(0) * (len(one) - 1) + other.var(0) * (len(other) - 1)) / freedom).sqrt()
        rows.append((one.mean(0) - other.mean(0)) / torch.where(pooled == 0, torch.nan, pooled))
    return torch.stack(rows)


def strongest(values: Float[Tensor, "sample column"], k: int) -> list[int]:
    """The k columns of largest L2 norm, largest first."""
    return values.double().norm(dim=0).argsort(descending=True, stable=True)[:k].tolist()


def head_features(
    pattern: Float[Tensor, "head query key"],
) -> Float64[Tensor, "later head feature"]:
    """HEAD_FEATURES of every query row of one text from position 1 on (position 0 sees only itself)."""
    rows = pattern.detach().double().cpu()
    previous = rows.diagonal(offset=-1, dim1=1, dim2=2)
    current = rows.diagonal(dim1=1, dim2=2)[:, 1:]
    entropy = torch.special.entr(rows[:, 1:]).sum(-1)
    return torch.stack([rows[:, 1:, 0], previous, current, entropy], dim=-1).transpose(0, 1)


@dataclass(frozen=True)
class Correlations:
    """Spearman correlation within texts of every series of one kind with every series of another."""

    r: Float64[Tensor, "one other"]
    without_position: Float64[Tensor, "one other"]
    """r after the linear trend with position is taken out of the ranks of both."""
    p: Float64[Tensor, "one other"]
    """Tokens of one side shuffled within each text, two-sided, pooled over pairs."""
    q: Float64[Tensor, "one other"]
    """p corrected over all pairs (Benjamini-Hochberg)."""
    tokens: int


def correlate_within_texts(
    ones: Sequence[Float[Tensor, "_ one"]],
    others: Sequence[Float[Tensor, "_ other"]],
    *,
    seed: int,
    n_shuffles: int = 100,
) -> Correlations:
    """Correlate the columns of `ones` with those of `others`, both given text by text (at least 4 tokens a text used).

    Ranks are taken within each text, so that differences between texts do not count. A constant column gives nan.
    """
    pairs = [(one, other) for one, other in zip(ones, others, strict=True) if len(one) >= 4]
    if not pairs:
        nothing = torch.full((ones[0].shape[1], others[0].shape[1]), torch.nan, dtype=torch.float64)
        return Correlations(nothing, nothing, nothing, nothing, 0)
    left = [_centred_ranks(one) for one, _ in pairs]
    right = [_centred_ranks(other) for _, other in pairs]
    r = _correlation(torch.cat(left), torch.cat(right))
    partial = _correlation(torch.cat([_detrended(x) for x in left]), torch.cat([_detrended(x) for x in right]))
    p = torch.where(r.isnan(), torch.nan, pooled_p_values(r.nan_to_num(), _shuffled(left, right, seed, n_shuffles)))
    return Correlations(r, partial, p, benjamini_hochberg(p), sum(map(len, left)))


def _shuffled(left: Sequence[Tensor], right: Sequence[Tensor], seed: int, n_shuffles: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    together = torch.cat(list(right))
    for _ in range(n_shuffles):
        mixed = torch.cat([part[torch.randperm(len(part), generator=generator)] for part in left])
        null = _correlation(mixed, together)
        yield null[~null.isnan()]


def _centred_ranks(values: Tensor) -> Float64[Tensor, "sample series"]:
    """Ranks from 0 to 1 within one text, mean 0: a long text does not outweigh its tokens."""
    ranks = average_ranks(values) / len(values)
    return ranks - ranks.mean(0)


def _detrended(ranks: Tensor) -> Float64[Tensor, "sample series"]:
    position = torch.arange(len(ranks), dtype=torch.float64)
    position = (position - position.mean()).unsqueeze(1)
    return ranks - position * (position * ranks).sum(0) / position.square().sum()


def _correlation(one: Tensor, other: Tensor) -> Float64[Tensor, "one other"]:
    lengths = one.norm(dim=0).unsqueeze(1) * other.norm(dim=0)
    return one.T @ other / torch.where(lengths < 1e-9, torch.nan, lengths)
