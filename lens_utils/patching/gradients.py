"""Attribution patching (Nanda 2023; Syed et al. 2023): the effect of every patch estimated from one backward pass.

estimate = gradient of the metric at the base run . (source activation - base activation). With `steps` above 1 the
gradient is the mean over inputs between the two runs' embeddings (Hanna et al. 2024, EAP-IG), which saturated
softmaxes and LayerNorms need.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float, Float64
from torch import Tensor

from lens_utils import hook_names, metrics
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.metrics import Metric
from lens_utils.patching.kinds import Kind, chosen_kinds
from lens_utils.patching.nodes import Node, input_hook, node_hooks, refuse_indirect, sent
from lens_utils.patching.paths import Paths
from lens_utils.patching.planning import Budget, pairs_at_once
from lens_utils.patching.propagation import Judge, at_end
from lens_utils.patching.runs import Direction, Run, Sides, both_sides, engine_hooks, run_texts
from lens_utils.patching.sweep import Sweep
from lens_utils.prompt_pairs import PromptPair


@dataclass(frozen=True)
class _Group:
    """Some of the pairs, run in both forms."""

    pairs: Sequence[PromptPair]
    sides: Sides
    judge: Judge
    clean: Float64[Tensor, " pair"]
    corrupted: Float64[Tensor, " pair"]

    @classmethod
    def of(
        cls,
        model: HookedTransformer,
        pairs: Sequence[PromptPair],
        hooks: Sequence[str],
        *,
        direction: Direction,
        metric: Metric,
    ) -> "_Group":
        clean = run_texts(model, [pair.clean for pair in pairs], [pair.clean_end for pair in pairs], hooks)
        corrupted = run_texts(model, [pair.corrupted for pair in pairs], [pair.corrupted_end for pair in pairs], hooks)
        judge = Judge(model, pairs, metric, clean)
        rows = torch.arange(len(pairs), device=model.device)
        ends = [judge(at_end(run), rows).double().cpu() for run in (clean, corrupted)]
        return cls(pairs, both_sides(pairs, clean, corrupted, direction), judge, ends[0], ends[1])

    @property
    def base(self) -> Float64[Tensor, " pair"]:
        """The base run's metric."""
        return self.corrupted if self.sides.direction == "denoise" else self.clean

    def gradients(self, hooks: Sequence[str], steps: int) -> dict[str, Tensor]:
        """Gradient of each pair's metric at these hooks, averaged over `steps` inputs from the base run's on."""
        run = self.sides.base
        start, gap = run.entering(0), self.sides.patch(hook_names.resid_pre(0)) - run.entering(0)
        total: dict[str, Tensor] = {}
        for step in range(steps):
            found = _gradients(run, self.judge, (start + step / steps * gap).clone(), hooks)
            total = {name: found[name] / steps + total.get(name, 0) for name in hooks}
        return total


def _gradients(run: Run, judge: Judge, resid: Tensor, hooks: Sequence[str]) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: object) -> None:
        kept[hook.name] = value  # type: ignore[attr-defined]

    model, rows = run.model, torch.arange(len(run.ends), device=run.last.device)
    # Hooks keep tensors of the graph, so that one backward pass reaches all of them
    with torch.enable_grad(), model.hooks(fwd_hooks=[(name, keep) for name in hooks]):
        logits = model(
            resid.requires_grad_(),
            attention_mask=run.mask.to(model.device),
            start_at_layer=0,
            logit_positions=run.ends[:, None],
        )[:, 0]
        if judge.metric == "logit_diff":
            values = metrics.logit_diff(logits, judge.answers, judge.wrong)
        elif judge.metric == "loss":
            values = metrics.loss(logits, judge.answers)
        else:
            assert judge.reference is not None
            values = metrics.kl(logits, judge.reference[rows].clone())
        found = torch.autograd.grad(values.sum(), [kept[name] for name in hooks], allow_unused=True)
    given = zip(hooks, found, strict=True)
    return {name: torch.zeros_like(kept[name]) if each is None else each for name, each in given}


def estimate(
    model: HookedTransformer,
    pairs: Sequence[PromptPair],
    kinds: Sequence[str],
    *,
    direction: Direction = "denoise",
    metric: Metric = "logit_diff",
    steps: int = 1,
    max_memory: float = 2.0,
) -> dict[str, Sweep]:
    """What `sweep` measures, estimated: {kind: Sweep}; `run_cells` is 0, as no cell is run.

    Raises `ValueError` as `sweep` does, and for `steps` below 1.
    """
    if steps < 1:
        raise ValueError(f"steps={steps!r}: must be at least 1")
    chosen = chosen_kinds(model, kinds)
    n_pos = max(len(text) for pair in pairs for text in (pair.clean, pair.corrupted))
    at_once = pairs_at_once(model, n_pos, len(pairs), chosen, Budget.of(max_memory))
    parts: dict[str, list[Sweep]] = {kind.name: [] for kind in chosen}
    hooks = [kind.hook(layer) for kind in chosen for layer in range(model.cfg.n_layers)]
    for begin in range(0, len(pairs), at_once):
        some = pairs[begin : begin + at_once]
        group = _Group.of(model, some, [*engine_hooks(model), *hooks], direction=direction, metric=metric)
        gradients = group.gradients(list(dict.fromkeys(hooks)), steps)
        for kind in chosen:
            parts[kind.name].append(_estimated(group, kind, gradients, n_pos))
    return {name: Sweep.joined(each) for name, each in parts.items()}


def _estimated(group: _Group, kind: Kind, gradients: dict[str, Tensor], n_pos: int) -> Sweep:
    sides, layers = group.sides, range(group.sides.base.model.cfg.n_layers)
    columns = []
    for layer in layers:
        hook = kind.hook(layer)
        change = gradients[hook] * (sides.patch(hook) - sides.base.cache[hook])
        columns.append(_by_cell(change, kind))
    effect = torch.stack(columns, dim=1).double().cpu()
    if not kind.unit:
        effect = effect[:, :, 0]
    if not kind.by_pos:
        values = effect.sum(-1)
    else:
        values = torch.full((*effect.shape[:-1], n_pos), torch.nan, dtype=torch.float64)
        for row, pair in enumerate(group.pairs):
            for clean, corrupted in pair.aligned:
                values[row, ..., clean] = effect[row, ..., corrupted if sides.direction == "denoise" else clean]
    values = values + group.base.reshape(-1, *[1] * (values.ndim - 1))
    return Sweep(kind, sides.direction, group.judge.metric, values, group.clean, group.corrupted, 0)


def _by_cell(change: Tensor, kind: Kind) -> Float[Tensor, "pair unit pos"]:
    if kind.unit == "":
        return change.sum(-1)[:, None]
    if kind.unit == "neuron":
        return change.transpose(1, 2)
    if kind.hook is hook_names.pattern:
        return change.sum(-1)
    return change.sum(-1).transpose(1, 2)


def estimate_paths(
    model: HookedTransformer,
    pairs: Sequence[PromptPair],
    senders: Sequence[Node],
    receivers: Sequence[Node],
    *,
    direction: Direction = "denoise",
    metric: Metric = "logit_diff",
    steps: int = 1,
    max_memory: float = 2.0,
) -> Paths:
    """What `path_effects` measures, estimated (edge attribution patching, Syed et al. 2023)."""
    refuse_indirect(model)
    if steps < 1:
        raise ValueError(f"steps={steps!r}: must be at least 1")
    n_pos = max(len(text) for pair in pairs for text in (pair.clean, pair.corrupted))
    at_once = pairs_at_once(model, n_pos, len(pairs), (), Budget.of(max_memory))
    inputs = {node: input_hook(model, node) for node in receivers}
    parts = []
    for begin in range(0, len(pairs), at_once):
        group = _Group.of(model, pairs[begin : begin + at_once], node_hooks(model), direction=direction, metric=metric)
        gradients = group.gradients(list(dict.fromkeys(inputs.values())), steps)
        values = torch.full((len(group.pairs), len(senders), len(receivers)), torch.nan, dtype=torch.float64)
        for row, sender in enumerate(senders):
            message = sent(group.sides, sender)
            for column, receiver in enumerate(receivers):
                if receiver.place > sender.place:
                    read = gradients[inputs[receiver]]
                    read = read[:, :, receiver.head] if receiver.part == "head" else read
                    effect = einsum(read, message, "pair pos m, pair pos m -> pair").double().cpu()
                    values[:, row, column] = group.base + effect
        parts.append(Paths(tuple(senders), tuple(receivers), direction, values, group.clean, group.corrupted))
    return Paths.joined(parts)
