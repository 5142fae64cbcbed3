"""QK and OV circuits over pairs of tokens, in bounded memory: the vocab x vocab matrix is never held.

A circuit is kept as two factors, and its rows are multiplied out a block at a time. Extreme entries are found by two
exact shortcuts: a row enters the search over the whole matrix only if its extreme passes the k-th found so far; and the
k extremes of a row lie in the k groups of columns with the most extreme members.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lens_utils.circuits.weights import check_attention, check_circuits, token_vectors
from lens_utils.hooked_transformer import HookedTransformer

BLOCK_VALUES = 2_000_000
"""Entries multiplied out at a time: 8 MB of float32, which stays in a processor's cache."""
_GROUP = 64


@dataclass(frozen=True)
class TokenCircuit:
    """The matrix left @ right, rows and columns being tokens."""

    left: Float[Tensor, "row rank"]
    right: Float[Tensor, "rank column"]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return self.left.shape[0], self.right.shape[1]

    def at(self, rows: Int[Tensor, " pair"], columns: Int[Tensor, " pair"]) -> Float[Tensor, " pair"]:
        """Single entries."""
        return (self.left[rows] * self.right[:, columns].T).sum(-1)

    def of_rows(self, rows: Int[Tensor, " chosen"]) -> "TokenCircuit":
        """The circuit of these rows only."""
        return TokenCircuit(self.left[rows], self.right)

    def plus(self, *, rows: Tensor | None = None, columns: Tensor | None = None) -> "TokenCircuit":
        """The circuit with rows[i] + columns[j] added to entry (i, j)."""
        (n_rows, n_columns), like = self.shape, self.left
        rows = like.new_zeros(n_rows) if rows is None else rows
        columns = like.new_zeros(n_columns) if columns is None else columns
        left = torch.cat([self.left, rows.unsqueeze(1), like.new_ones(n_rows, 1)], dim=1)
        right = torch.cat([self.right, like.new_ones(1, n_columns), columns.unsqueeze(0)])
        return TokenCircuit(left, right)

    @property
    def transposed(self) -> "TokenCircuit":
        """Rows and columns exchanged."""
        return TokenCircuit(self.right.T.contiguous(), self.left.T)

    def blocks(self) -> Iterator[tuple[int, Float[Tensor, "block column"]]]:
        """Rows from top to bottom, a block at a time: (first row, entries); the buffer is used again for the next."""
        n_rows, n_columns = self.shape
        size = max(1, min(n_rows, BLOCK_VALUES // n_columns))
        buffer = self.left.new_empty(size, n_columns)
        for start in range(0, n_rows, size):
            rows = self.left[start : start + size]
            yield start, torch.mm(rows, self.right, out=buffer[: len(rows)])


@dataclass(frozen=True)
class Entries:
    """Entries of a circuit, the most extreme first."""

    values: Float[Tensor, " rank"]
    rows: Int[Tensor, " rank"]
    columns: Int[Tensor, " rank"]


@dataclass(frozen=True)
class RowEntries:
    """The most extreme entries of each row, the most extreme first."""

    values: Float[Tensor, "row rank"]
    columns: Int[Tensor, "row rank"]


def direct_path(model: HookedTransformer) -> TokenCircuit:
    """W_E W_U + b_U, the bigram table: logits of each next token (columns) for an embedding alone in the stream.

    With LayerNorm each row of W_E is centred and divided by its own scale, as the final LayerNorm does when nothing
    else is there. Positions are left out.
    """
    check_circuits(model)
    rows = token_vectors(model)
    if model.cfg.normalization_type is not None:
        rows = rows / (rows.square().mean(-1, keepdim=True) + model.cfg.eps).sqrt()
    return TokenCircuit(rows, model.W_U.detach()).plus(columns=model.b_U.detach())


def ov_circuit(model: HookedTransformer, layer: int, head: int, *, scale: float = 1.0) -> TokenCircuit:
    """W_E W_V W_O W_U / scale of one head: what attending to a token (row) adds to each logit (column).

    `scale` is LN1's times the final LayerNorm's typical denominator (`typical_scales`).
    """
    check_attention(model)
    attn = model.blocks[layer].attn
    left = token_vectors(model) @ attn.W_V[head].detach()
    return TokenCircuit(left / scale, (attn.W_O[head] @ model.W_U).detach())


def qk_circuit(model: HookedTransformer, layer: int, head: int, *, scale: float = 1.0) -> TokenCircuit:
    """(W_E W_Q / scale + b_Q) (W_E W_K / scale + b_K)^T / divisor: score of a query (row) with a key token (column).

    The divisor is sqrt(d_head) unless the model says otherwise. Only differences within a row matter: the softmax
    ignores what is added to all keys alike. Positions and earlier heads are left out.
    """
    check_attention(model)
    attn = model.blocks[layer].attn
    tokens = token_vectors(model) / scale
    queries = tokens @ attn.W_Q[head].detach() + attn.b_Q[head].detach()
    keys = tokens @ attn.W_K[head].detach() + attn.b_K[head].detach()
    return TokenCircuit(queries / attn.score_divisor, keys.T.contiguous())


def extreme_entries(circuit: TokenCircuit, k: int) -> tuple[Entries, Entries]:
    """The k largest and the k smallest entries of the whole matrix."""
    _check_k(k)
    high, low = _Running(k, largest=True), _Running(k, largest=False)
    for start, block in circuit.blocks():
        ends = block.aminmax(dim=1)
        high.offer(block, ends.max, start)
        low.offer(block, ends.min, start)
    return high.found(circuit.shape[1]), low.found(circuit.shape[1])


def row_extremes(circuit: TokenCircuit, k: int, *, largest: bool = True) -> RowEntries:
    """The k largest (or smallest) entries of each row; all of them where there are fewer columns."""
    _check_k(k)
    k = min(k, circuit.shape[1])
    found = [_grouped_top(block, k, largest=largest) for _, block in circuit.blocks()]
    return RowEntries(torch.cat([values for values, _ in found]), torch.cat([columns for _, columns in found]))


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k={k!r}: ask for at least 1 entry")


class _Running:
    """The k most extreme entries so far, of the whole matrix."""

    def __init__(self, k: int, *, largest: bool) -> None:
        self._k, self._largest = k, largest
        self._values: Tensor | None = None
        self._places: Tensor | None = None

    def offer(self, block: Tensor, ends: Tensor, start: int) -> None:
        rows = self._worth_looking_at(ends)
        if not len(rows):
            return
        n_columns = block.shape[1]
        values, columns = _grouped_top(block[rows], min(self._k, n_columns), largest=self._largest)
        places = (rows + start).unsqueeze(1) * n_columns + columns
        values, places = values.flatten(), places.flatten()
        if self._values is not None and self._places is not None:
            values, places = torch.cat([self._values, values]), torch.cat([self._places, places])
        top = values.topk(min(self._k, len(values)), largest=self._largest)
        self._values, self._places = top.values, places[top.indices]

    def _worth_looking_at(self, ends: Tensor) -> Int[Tensor, " row"]:
        if self._values is None or len(self._values) < self._k:
            return torch.arange(len(ends), device=ends.device)
        passes = ends > self._values[-1] if self._largest else ends < self._values[-1]
        return passes.nonzero().squeeze(1)

    def found(self, n_columns: int) -> Entries:
        assert self._values is not None
        assert self._places is not None
        return Entries(self._values, self._places // n_columns, self._places % n_columns)


def _grouped_top(block: Tensor, k: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    """Values and columns of each row's k extremes, by way of the extreme of each group of columns."""
    n_rows, n_columns = block.shape
    n_groups = n_columns // _GROUP
    if n_groups <= 2 * k:
        top = block.topk(k, dim=1, largest=largest)
        return top.values, top.indices
    grouped = block[:, : n_groups * _GROUP].unflatten(1, (n_groups, _GROUP))
    ends = grouped.amax(-1) if largest else grouped.amin(-1)
    groups = ends.topk(k, dim=1, largest=largest).indices
    members = groups.unsqueeze(-1) * _GROUP + torch.arange(_GROUP, device=block.device)
    rest = torch.arange(n_groups * _GROUP, n_columns, device=block.device).expand(n_rows, -1)
    columns = torch.cat([members.flatten(1), rest], dim=1)
    top = block.gather(1, columns).topk(k, dim=1, largest=largest)
    return top.values, columns.gather(1, top.indices)


@dataclass(frozen=True)
class OwnRanks:
    """Where each row's own column stands in its row."""

    above: Int[Tensor, " row"]
    """Columns with a larger entry than the own one."""
    level: Int[Tensor, " row"]
    """Other columns with the same entry."""

    @property
    def ranks(self) -> Float64[Tensor, " row"]:
        """1 for the largest entry of the row; ties share the mean of their ranks."""
        return 1 + self.above.double() + self.level.double() / 2

    def within(self, k: int) -> Float64[Tensor, " row"]:
        """1 where the own entry is among the k largest with no tie for the last place, else 0."""
        return (self.above + self.level < k).double()


def own_ranks(circuit: TokenCircuit, own: Int[Tensor, " row"]) -> OwnRanks:
    """Rank of column own[i] in row i, from the largest entry down."""
    above, level = [], []
    for start, block in circuit.blocks():
        mine = block.gather(1, own[start : start + len(block)].unsqueeze(1))
        above.append((block > mine).sum(1))
        level.append((block == mine).sum(1) - 1)
    return OwnRanks(torch.cat(above), torch.cat(level))


def log_probabilities(circuit: TokenCircuit) -> TokenCircuit:
    """Each row of logits minus its log sum of exponentials."""
    return circuit.plus(rows=-torch.cat([block.logsumexp(1) for _, block in circuit.blocks()]))
