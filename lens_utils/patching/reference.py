"""The plain way: one full forward pass a cell, with a hook that writes the patch. Slow, and what the engine must equal.

Also several patches in one pass (`patched_together`), which has no fast way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lens_utils import hook_names, metrics
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.interventions import Hook
from lens_utils.metrics import Metric
from lens_utils.patching.kinds import KINDS, Kind
from lens_utils.patching.nodes import Node, input_hook, node_hooks, sent
from lens_utils.patching.runs import Direction, both_sides, run_texts
from lens_utils.prompt_pairs import PromptPair


@dataclass(frozen=True)
class Cell:
    """One patch: where None stands, all of that axis."""

    kind: str
    layer: int
    unit: int | None = None
    """Head or neuron."""
    pos: int | None = None
    """Position of the clean prompt."""


def metric_of(
    logits: Float[Tensor, " vocab"], pair: PromptPair, metric: Metric, clean_logits: Float[Tensor, " vocab"] | None
) -> float:
    """The metric of one prompt's logits at its end; KL needs the clean run's logits too."""
    answer = torch.tensor([pair.answer])
    if metric == "logit_diff":
        return float(metrics.logit_diff(logits[None], answer, torch.tensor([pair.wrong])))
    if metric == "loss":
        return float(metrics.loss(logits[None], answer))
    assert clean_logits is not None
    return float(metrics.kl(logits[None], clean_logits[None]))


@torch.inference_mode()
def patched_together(
    model: HookedTransformer, pair: PromptPair, cells: Sequence[Cell], *, direction: Direction, metric: Metric
) -> float:
    """The metric of one pair with all these cells patched at once; no cells give the base run's metric."""
    denoise = direction == "denoise"
    base, source = (pair.corrupted, pair.clean) if denoise else (pair.clean, pair.corrupted)
    end = pair.corrupted_end if denoise else pair.clean_end
    hooks = list(dict.fromkeys(KINDS[cell.kind].hook(cell.layer) for cell in cells))
    patches = {}
    if hooks:
        _, cache = model.run_with_cache(source.tokens[None].to(model.device), None, names_filter=hooks)
        patches = {hook: cache[hook] for hook in hooks}
    writing: list[Hook] = []
    for cell in cells:
        kind = KINDS[cell.kind]
        writing.append((kind.hook(cell.layer), _writer(cell, kind, pair, patches[kind.hook(cell.layer)], denoise)))
    with model.hooks(fwd_hooks=writing):
        logits = model(base.tokens[None].to(model.device))[0, end]
    clean = model(pair.clean.tokens[None].to(model.device))[0, pair.clean_end] if metric == "kl" else None
    return metric_of(logits, pair, metric, clean)


def _writer(cell: Cell, kind: Kind, pair: PromptPair, patch: Tensor, denoise: bool):
    places = [
        (corrupted, clean) if denoise else (clean, corrupted)
        for clean, corrupted in pair.aligned
        if cell.pos is None or clean == cell.pos
    ]

    def write(value: Tensor, hook: object) -> Tensor:
        new = value.clone()
        for here, there in places:
            if kind.unit == "":
                new[:, here] = patch[:, there]
            elif kind.hook is hook_names.pattern:
                new[:, cell.unit, here] = patch[:, cell.unit, there]
            else:
                new[:, here, cell.unit] = patch[:, there, cell.unit]
        return new

    return write


def plain_sweep(
    model: HookedTransformer, pair: PromptPair, kind: str, *, direction: Direction, metric: Metric
) -> Tensor:
    """Every cell of a kind for one pair, each by a forward pass of its own; nan: the position has no counterpart."""
    shape = KINDS[kind].shape(model, len(pair.clean))
    values = torch.full(shape, torch.nan, dtype=torch.float64)
    known = {clean for clean, _ in pair.aligned}
    for at in torch.cartesian_prod(*(torch.arange(size) for size in shape)).tolist():
        place = dict(zip(KINDS[kind].axes, at, strict=True))
        if "pos" in place and place["pos"] not in known:
            continue
        unit = place.get("head", place.get("neuron"))
        cell = Cell(kind, place["layer"], unit, place.get("pos"))
        values[tuple(at)] = patched_together(model, pair, [cell], direction=direction, metric=metric)
    return values


@torch.inference_mode()
def patched_path(
    model: HookedTransformer, pair: PromptPair, sender: Node, receiver: Node, *, direction: Direction
) -> float:
    """The logit difference of one pair with one edge patched: the receiver's input hook gets the sender's message."""
    denoise = direction == "denoise"
    ends = (pair.corrupted_end, pair.clean_end) if denoise else (pair.clean_end, pair.corrupted_end)
    texts = (pair.corrupted, pair.clean) if denoise else (pair.clean, pair.corrupted)
    base, source = (run_texts(model, [text], [end], node_hooks(model)) for text, end in zip(texts, ends, strict=True))
    message = sent(both_sides([pair], *((source, base) if denoise else (base, source)), direction), sender)

    def hear(value: Tensor, hook: object) -> Tensor:
        if receiver.part != "head":
            return value + message
        new = value.clone()
        new[:, :, receiver.head] += message
        return new

    with model.hooks(fwd_hooks=[(input_hook(model, receiver), hear)]):
        logits = model(texts[0].tokens[None].to(model.device))[0, ends[0]]
    return metric_of(logits, pair, "logit_diff", None)
