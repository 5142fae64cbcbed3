"""Path patching (Wang et al. 2022; Goldowsky-Dill et al. 2023): one sender's message to one receiver, all else held.

The receiver reads the base run's residual stream plus what the sender writes in the source run minus what it writes in
the base run. Nothing between them hears of it; what follows the receiver is computed anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.metrics import Metric, normalised
from lens_utils.patching.changes import Cells, Change, attend, rows_of_new_z, window
from lens_utils.patching.nodes import Node, node_hooks, refuse_indirect, sent
from lens_utils.patching.planning import Budget, chunks, pairs_at_once
from lens_utils.patching.propagation import Judge, at_end, propagate, queries_keys_values
from lens_utils.patching.runs import Direction, Run, Sides, both_sides, run_texts
from lens_utils.progress import progress
from lens_utils.prompt_pairs import PromptPair


@dataclass(frozen=True)
class Paths:
    """The metric with each edge patched, pair by pair."""

    senders: tuple[Node, ...]
    receivers: tuple[Node, ...]
    direction: Direction
    values: Float64[Tensor, "pair sender receiver"]
    """In the metric's units; nan where the sender does not come before the receiver."""
    clean: Float64[Tensor, " pair"]
    corrupted: Float64[Tensor, " pair"]

    @property
    def effects(self) -> Float64[Tensor, "pair sender receiver"]:
        """0 for the corrupted run's metric, 1 for the clean one's."""
        return normalised(self.values, self.corrupted[:, None, None], self.clean[:, None, None])

    @property
    def base(self) -> Float64[Tensor, " pair"]:
        """The metric with nothing patched."""
        return self.corrupted if self.direction == "denoise" else self.clean

    @classmethod
    def joined(cls, parts: Sequence["Paths"]) -> "Paths":
        """The paths of the pairs of several."""
        first = parts[0]
        joined = [torch.cat([getattr(part, name) for part in parts]) for name in ("values", "clean", "corrupted")]
        return cls(first.senders, first.receivers, first.direction, *joined)


def path_effects(
    model: HookedTransformer,
    pairs: Sequence[PromptPair],
    senders: Sequence[Node],
    receivers: Sequence[Node],
    *,
    direction: Direction = "denoise",
    metric: Metric = "logit_diff",
    max_memory: float = 2.0,
) -> Paths:
    """Every edge from these senders to these receivers for every pair.

    Raises `ValueError` before any forward pass on post-norm models, where direct paths are not defined.
    """
    refuse_indirect(model)
    if not pairs:
        raise ValueError("pairs=(): give at least one prompt pair")
    budget = Budget.of(max_memory)
    n_pos = max(len(text) for pair in pairs for text in (pair.clean, pair.corrupted))
    at_once = pairs_at_once(model, n_pos, len(pairs), (), budget)
    parts, groups = [], range(0, len(pairs), at_once)
    with progress("path patching", len(groups) * len(senders)) as advance:
        for begin in groups:
            some = pairs[begin : begin + at_once]
            sides, judge, clean, corrupted = _both(model, some, direction, metric)
            values = _values(sides, judge, senders, receivers, budget, advance)
            parts.append(Paths(tuple(senders), tuple(receivers), direction, values, clean, corrupted))
    return Paths.joined(parts)


def _both(
    model: HookedTransformer, pairs: Sequence[PromptPair], direction: Direction, metric: Metric
) -> tuple[Sides, Judge, Tensor, Tensor]:
    hooks = node_hooks(model)
    clean = run_texts(model, [pair.clean for pair in pairs], [pair.clean_end for pair in pairs], hooks)
    corrupted = run_texts(model, [pair.corrupted for pair in pairs], [pair.corrupted_end for pair in pairs], hooks)
    judge = Judge(model, pairs, metric, clean)
    rows = torch.arange(len(pairs), device=model.device)
    metrics = [judge(at_end(run), rows).double().cpu() for run in (clean, corrupted)]
    return both_sides(pairs, clean, corrupted, direction), judge, metrics[0], metrics[1]


def _values(
    sides: Sides,
    judge: Judge,
    senders: Sequence[Node],
    receivers: Sequence[Node],
    budget: Budget,
    advance: Callable[..., None],
) -> Tensor:
    run = sides.base
    rows = torch.arange(len(run.ends), device=run.last.device)
    base = judge(at_end(run), rows).double().cpu()
    values = torch.full((len(run.ends), len(senders), len(receivers)), torch.nan, dtype=torch.float64)
    for row, sender in enumerate(senders):
        message, later = sent(sides, sender), [at for at, each in enumerate(receivers) if each.place > sender.place]
        values[:, row, later] = base[:, None].repeat(1, len(later))
        for layer, side in dict.fromkeys((receivers[at].layer, receivers[at].side) for at in later):
            group = [at for at in later if (receivers[at].layer, receivers[at].side) == (layer, side)]
            for at in [at for at in group if receivers[at].part != "head"]:
                values[:, row, at] = _to_part(run, judge, receivers[at], message, budget)
            heads = {receivers[at].head: at for at in group if receivers[at].part == "head"}
            if heads:
                columns = list(heads.values())
                values[:, row, columns] = _to_heads(run, judge, (layer, side, list(heads)), message, budget)
        advance()
    return values


def _heard(run: Run, message: Tensor) -> Tensor:
    """Pairs and the first position at which the message is not nothing and the end can see it: (pair, start)."""
    there = (message != 0).any(-1)
    if not run.model.cfg.is_masked:
        there &= torch.arange(run.n_pos, device=there.device) <= run.ends[:, None]
    pair = there.any(-1).nonzero()[:, 0]
    start = there[pair].int().argmax(-1)
    return torch.stack([pair, torch.zeros_like(start) if run.model.cfg.is_masked else start])


def _to_part(run: Run, judge: Judge, receiver: Node, message: Tensor, budget: Budget) -> Tensor:
    """The metric when an MLP, or the unembedding, hears the message; one value a pair."""
    ends, rows = run.ends, torch.arange(len(run.ends), device=run.last.device)
    if receiver.part == "logits":
        return judge(at_end(run) + message[rows, ends], rows).double().cpu()
    values = judge(at_end(run), rows).double().cpu()
    pair, start = _heard(run, message)
    cells = Cells(pair, torch.zeros_like(pair), torch.zeros_like(pair), start)
    layer, block = receiver.layer, run.model.blocks[receiver.layer]
    assert block.mlp is not None
    for part in _parts(run, judge, cells, layer, budget):
        positions = _end_or_window(run, layer, part)
        heard = (part.pair[:, None], positions)
        mid = run.after_attention(layer)[heard]
        # The skip path goes on without the message
        resid = block.after_mlp(mid + block.mlp(block.ln2(mid + message[heard])))
        found = judge(propagate(run, Change(layer + 1, part.pair, positions, resid)), part.pair)
        values[part.pair.cpu()] = found.double().cpu()
    return values


def _to_heads(run: Run, judge: Judge, receiver: tuple[int, str, list[int]], message: Tensor, budget: Budget) -> Tensor:
    """The metric when one head's queries, keys or values hear the message; [pair, head]."""
    layer, side, heads = receiver
    rows = torch.arange(len(run.ends), device=run.last.device)
    values = judge(at_end(run), rows).double().cpu()[:, None].repeat(1, len(heads))
    pair, start = _heard(run, message)
    units = torch.arange(len(heads), device=pair.device)
    cells = Cells(
        pair.repeat(len(heads)), units.repeat_interleave(len(pair)), start.repeat(len(heads)), start.repeat(len(heads))
    )
    everywhere = torch.arange(run.n_pos, device=pair.device).expand(len(rows), -1)
    new = dict(zip("qkv", queries_keys_values(run, layer, run.entering(layer) + message, everywhere), strict=True))
    hooks = {"q": hook_names.q, "k": hook_names.k, "v": hook_names.v}
    read = {name: new[name] if name == side else run.cache[hook(layer)] for name, hook in hooks.items()}
    number = torch.tensor(heads, device=pair.device)
    for part in _parts(run, judge, cells, layer, budget):
        positions, head = _end_or_window(run, layer, part), number[part.unit]
        queries = read["q"][part.pair[:, None], positions, head[:, None]]
        keys, of_values = (read[name][part.pair, :, head] for name in ("k", "v"))
        z = attend(run, layer, part.pair, positions, (queries, keys, of_values))
        of_head = Cells(part.pair, head, part.pos, part.start)
        resid = rows_of_new_z(run, layer, of_head, positions, z)
        found = judge(propagate(run, Change(layer + 1, part.pair, positions, resid)), part.pair)
        values[part.pair.cpu(), part.unit.cpu()] = found.double().cpu()
    return values


def _end_or_window(run: Run, layer: int, cells: Cells) -> Tensor:
    return run.ends[cells.pair][:, None] if layer == run.model.cfg.n_layers - 1 else window(run, cells)


def _parts(run: Run, judge: Judge, cells: Cells, layer: int, budget: Budget) -> list[Cells]:
    whole = judge.metric != "logit_diff"
    cut = chunks(run.model, cells, layer=layer + 1, n_pos=run.n_pos, budget=budget, logits=whole)
    return [cells.take(rows) for rows in cut]
