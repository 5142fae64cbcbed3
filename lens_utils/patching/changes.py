"""From a patched cell to what changes in the residual stream: where it enters, and the new rows there.

Whatever is patched (a query, a neuron, a pattern), what the rest of the model sees is a residual stream that differs at
some positions after some layer. Working that out needs one head, one neuron or one position, not a forward pass:

- z, q, pattern of a head at a position, a residual, an attention or MLP output: the stream differs at that position;
- k, v of a head at a position: the stream differs from that position on (in an encoder: everywhere).
"""

from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_utils import hook_names
from lens_utils.patching.kinds import Kind
from lens_utils.patching.runs import Run, Sides


@dataclass(frozen=True)
class Cells:
    """Cells of one kind and layer, of several pairs: one a row."""

    pair: Int[Tensor, " row"]
    unit: Int[Tensor, " row"]
    """Head or neuron; 0 where the kind has none."""
    pos: Int[Tensor, " row"]
    """Position in the base run; 0 where a cell is all positions together."""
    start: Int[Tensor, " row"]
    """First position at which the residual stream differs."""

    def __len__(self) -> int:
        return len(self.pair)

    def take(self, rows: Int[Tensor, " chosen"]) -> "Cells":
        """Some of the cells."""
        return Cells(self.pair[rows], self.unit[rows], self.pos[rows], self.start[rows])


@dataclass(frozen=True)
class Change:
    """Rows of the residual stream entering `layer` that differ from the base run."""

    layer: int
    """Block that reads them; `n_layers`: nothing but the unembedding does."""
    pair: Int[Tensor, " row"]
    positions: Int[Tensor, "row width"]
    """Where the rows stand: one position each, or the same window of positions for all."""
    resid: Float[Tensor, "row width d_model"]


def differing_cells(sides: Sides, kind: Kind, layer: int, *, skip: bool = True) -> Cells:
    """The cells that can change the metric: the two runs differ there, and the end can see it.

    Without `skip`, also those where the two runs are the same.
    """
    run = sides.base
    differs = _differs(sides, kind, layer)
    if not skip:
        differs = torch.ones_like(differs) & (sides.counterpart >= 0).to(differs.device)[:, None]
    at_end = torch.arange(run.n_pos, device=differs.device) == run.ends[:, None]
    before_end = torch.arange(run.n_pos, device=differs.device) <= run.ends[:, None]
    causal, is_last = not run.model.cfg.is_masked, layer == run.model.cfg.n_layers - 1
    reads_stream = kind.name == "resid_pre" or kind.moves
    # Behind the last attention layer, no position reads another
    relevant = at_end if is_last and not reads_stream else before_end if causal else run.mask.to(differs.device)
    differs = differs & relevant[:, None]
    if kind.by_pos:
        pair, unit, pos = differs.nonzero(as_tuple=True)
        start = pos
    else:
        pair, unit = differs.any(-1).nonzero(as_tuple=True)
        start = differs[pair, unit].int().argmax(-1)
        pos = torch.zeros_like(start)
    if not causal and (kind.moves or not kind.by_pos):
        start = torch.zeros_like(start)
    return Cells(pair, unit, pos, start)


def _differs(sides: Sides, kind: Kind, layer: int) -> Bool[Tensor, "pair unit pos"]:
    """Where the patch is not what is there already."""
    hook = kind.hook(layer)
    unequal = sides.base.cache[hook] != sides.patch(hook)
    if kind.unit == "":
        return unequal.any(-1)[:, None]
    if kind.unit == "neuron":
        return unequal.transpose(1, 2)
    if kind.hook is hook_names.pattern:
        return unequal.any(-1)
    return unequal.any(-1).transpose(1, 2)


@torch.inference_mode()
def change_of(sides: Sides, kind: Kind, layer: int, cells: Cells) -> Change:
    """The new rows of the residual stream for cells that differ (see `differing_cells`)."""
    run, model = sides.base, sides.base.model
    if kind.name == "resid_pre":
        rows = sides.patch(kind.hook(layer))[cells.pair, cells.pos]
        return Change(layer, cells.pair, cells.pos[:, None], rows[:, None])
    positions = _positions(run, kind, layer, cells)
    block, pair = model.blocks[layer], cells.pair[:, None]
    patch = sides.patch(kind.hook(layer))
    if kind.name == "resid_post":
        rows = block.after_mlp(patch[pair, positions])
    elif kind.name == "resid_mid":
        rows = block.after_attention(patch[pair, positions])
    elif kind.name == "attn_out":
        rows = block.after_attention(run.entering(layer)[pair, positions] + patch[pair, positions])
    elif kind.needs_mlp:
        mlp_out = patch[pair, positions] if kind.name == "mlp_out" else _mlp_out(sides, kind, layer, cells, positions)
        rows = block.after_mlp(block.after_first_addition(run.after_attention(layer)[pair, positions]) + mlp_out)
    else:
        z = _head_z(sides, kind, layer, cells, positions)
        rows = rows_of_new_z(run, layer, cells, positions, z)
    return Change(layer + 1, cells.pair, positions, rows)


def rows_of_new_z(
    run: Run, layer: int, cells: Cells, positions: Int[Tensor, "row width"], z: Float[Tensor, "row width d_head"]
) -> Float[Tensor, "row width d_model"]:
    """The block's output where one head of each row has another z: `unit` says which."""
    block, pair = run.model.blocks[layer], cells.pair[:, None]
    change = z - run.cache[hook_names.z(layer)][pair, positions, cells.unit[:, None]]
    mid = run.after_attention(layer)[pair, positions]
    for head in cells.unit.unique().tolist():
        rows = cells.unit == head
        mid[rows] += change[rows] @ block.attn.W_O[head]
    return block.after_attention(mid)


def _positions(run: Run, kind: Kind, layer: int, cells: Cells) -> Int[Tensor, "row width"]:
    """Where the block's output differs: the cell's position, a common window, or the end if nothing else counts."""
    if layer == run.model.cfg.n_layers - 1:
        return run.ends[cells.pair][:, None]
    if kind.by_pos and not kind.moves:
        return cells.pos[:, None]
    return window(run, cells)


def window(run: Run, cells: Cells) -> Int[Tensor, "row width"]:
    """From the first position at which any row differs to the last that any end can see, for all rows the same."""
    stop = run.n_pos if run.model.cfg.is_masked else int(run.ends[cells.pair].max()) + 1
    return torch.arange(int(cells.start.min()), stop, device=cells.pair.device).expand(len(cells), -1)


def _mlp_out(
    sides: Sides, kind: Kind, layer: int, cells: Cells, positions: Int[Tensor, "row width"]
) -> Float[Tensor, "row width d_model"]:
    """The MLP output where one neuron of each row is patched."""
    run, block, hook = sides.base, sides.base.model.blocks[layer], kind.hook(layer)
    pair, unit = cells.pair[:, None], cells.unit[:, None]
    assert block.mlp is not None
    change = sides.patch(hook)[pair, positions, unit] - run.cache[hook][pair, positions, unit]
    return run.cache[hook_names.mlp_out(layer)][pair, positions] + change[..., None] * block.mlp.W_out[unit]


def _head_z(
    sides: Sides, kind: Kind, layer: int, cells: Cells, positions: Int[Tensor, "row width"]
) -> Float[Tensor, "row width d_head"]:
    """The new z of each row's head."""
    run, patch = sides.base, sides.patch(kind.hook(layer))
    pair, unit = cells.pair[:, None], cells.unit[:, None]
    if kind.hook is hook_names.z:
        return patch[pair, positions, unit]
    if kind.hook is hook_names.pattern:
        values = run.cache[hook_names.v(layer)][cells.pair, :, cells.unit]
        return patch[pair, unit, positions] @ values
    heads = {name: run.cache[hook(layer)] for name, hook in _READ.items()}
    if kind.hook is hook_names.q:
        heads["q"] = patch
    queries = heads["q"][pair, positions, unit]
    keys, values = (heads[name][cells.pair, :, cells.unit] for name in ("k", "v"))
    if kind.moves:
        new, name = patch[cells.pair, :, cells.unit], "k" if kind.hook is hook_names.k else "v"
        if kind.by_pos:
            own = keys if name == "k" else values
            here = torch.arange(run.n_pos, device=own.device) == cells.pos[:, None]
            new = torch.where(here[..., None], new, own)
        keys, values = (new, values) if name == "k" else (keys, new)
    return attend(run, layer, cells.pair, positions, (queries, keys, values))


_READ = {"q": hook_names.q, "k": hook_names.k, "v": hook_names.v}


def attend(
    run: Run,
    layer: int,
    pair: Int[Tensor, " row"],
    positions: Int[Tensor, "row width"],
    qkv: tuple[Tensor, Tensor, Tensor],
) -> Float[Tensor, "row width d_head"]:
    """z of one head a row from its queries at `positions` and its keys and values at all positions."""
    queries, keys, values = qkv
    visible = run.visible(layer)[:, 0]
    seen = visible[pair if len(visible) > 1 else torch.zeros_like(pair)][
        torch.arange(len(pair), device=pair.device)[:, None], positions
    ]
    scores = (
        einsum(queries, keys, "row width d, row key d -> row width key") / run.model.blocks[layer].attn.score_divisor
    )
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ values
