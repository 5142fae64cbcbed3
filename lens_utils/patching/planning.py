"""How a sweep is cut: which cells run together, by estimated time, within a bound on memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.patching.changes import Cells
from lens_utils.patching.kinds import Kind

GIB = 2**30
LARGEST_CHUNK = 4096
"""Positions (rows x width) computed at once where memory would allow more: beyond it a processor's caches are left."""
_CALL_SECONDS = 5e-4
_FLOPS_PER_SECOND = 5e10
"""Rough, for one block call and a processor core or two: they only decide what is merged, never a result."""


@dataclass(frozen=True)
class Budget:
    """Bytes for kept activations and for work; the weights themselves are not counted."""

    cache: int
    work: int

    @classmethod
    def of(cls, max_memory: float) -> "Budget":
        """Half of `max_memory` GiB for each; `ValueError` unless it is positive."""
        if not max_memory > 0:
            raise ValueError(f"max_memory={max_memory!r}: give GiB above 0")
        return cls(int(max_memory * GIB / 2), int(max_memory * GIB / 2))


def pairs_at_once(model: HookedTransformer, n_pos: int, n_pairs: int, kinds: Sequence[Kind], budget: Budget) -> int:
    """How many prompt pairs can be kept at once; `ValueError` with the least memory when not even one can."""
    cfg = model.cfg
    d_heads = cfg.n_heads * cfg.d_head
    widths = {"pattern": cfg.n_heads * n_pos, "neurons": cfg.d_mlp or 0, "resid_mid": cfg.d_model}
    names = {kind.name.removesuffix("_by_pos") for kind in kinds}
    # resid_pre, resid_post, attn_out, mlp_out; q, k, v, z
    width = 4 * cfg.d_model + 4 * d_heads + sum(widths.get(name, 0) for name in names)
    each = 2 * n_pos * cfg.n_layers * width * _size(model)
    if each > budget.cache:
        raise ValueError(
            f"max_memory={2 * budget.cache / GIB:.3g} GiB: one pair of {n_pos} tokens needs {2 * each / GIB:.3g} GiB"
        )
    return min(n_pairs, budget.cache // each)


def chunks(
    model: HookedTransformer, cells: Cells, *, layer: int, n_pos: int, budget: Budget, logits: bool
) -> Iterator[Int[Tensor, " row"]]:
    """Indices of the cells that run together: those of near starts merged where that saves more time than it costs.

    `layer` is the block the change enters; `logits`: whole rows of logits are needed at the end.
    """
    order = cells.start.argsort(stable=True)
    starts = cells.start[order].tolist()
    groups = _merged(model, starts, layer, n_pos)
    begin = 0
    for size in groups:
        rows = order[begin : begin + size]
        width = max(1, n_pos - starts[begin])
        at_once = max(1, min(LARGEST_CHUNK // width, budget.work // _row_bytes(model, width, n_pos, logits)))
        yield from rows.split(at_once)
        begin += size


def _merged(model: HookedTransformer, starts: Sequence[int], layer: int, n_pos: int) -> list[int]:
    """Sizes of the runs of sorted starts that are computed over one window each: least estimated time."""
    cfg = model.cfg
    if not starts or cfg.is_masked or layer >= cfg.n_layers:
        return [len(starts)] if starts else []
    places = sorted(set(starts))
    counts = [starts.count(place) for place in places]
    layers = cfg.n_layers - layer
    per_token = 8 * cfg.d_model * cfg.n_heads * cfg.d_head + 4 * cfg.d_model * (cfg.d_mlp or 0)
    # In the last block only keys and values are needed at every position
    token_seconds = (layers - 1 + 0.4) * per_token / _FLOPS_PER_SECOND
    best, cut = [0.0], [0]
    for end in range(1, len(places) + 1):
        options = [
            (
                best[begin] + layers * _CALL_SECONDS + sum(counts[begin:end]) * (n_pos - places[begin]) * token_seconds,
                begin,
            )
            for begin in range(end)
        ]
        least, begin = min(options)
        best.append(least)
        cut.append(begin)
    sizes, end = [], len(places)
    while end:
        sizes.append(sum(counts[cut[end] : end]))
        end = cut[end]
    return sizes[::-1]


def _row_bytes(model: HookedTransformer, width: int, n_pos: int, logits: bool) -> int:
    cfg = model.cfg
    d_heads = cfg.n_heads * cfg.d_head
    stream = width * (6 * cfg.d_model + 4 * d_heads + 2 * (cfg.d_mlp or 0) + cfg.n_heads * n_pos)
    return _size(model) * (stream + 3 * n_pos * d_heads + (3 * cfg.d_vocab if logits else 0))


def _size(model: HookedTransformer) -> int:
    return torch.empty((), dtype=model.cfg.dtype).element_size()
