"""How much of a head's own direct effect others make up for when it is taken out (McGrath et al. 2023; Rushing & Nanda

2024), on the logit difference. With D a part's direct effect (`direct_effects`), before and after the ablation:
own = D_head - D_replaced; lost = own - (later heads' rise + MLPs' rise + norm), where the norm term is what the changed
LayerNorm scales (and the gate of a masked model's head) add. Made up = own - lost, positive for repair.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.ablation_study import parts
from lens_utils.ablation_study.direct_effects import Directions, head_effects, mlp_effects
from lens_utils.ablation_study.engine import ablated_runs
from lens_utils.ablation_study.parts import Part
from lens_utils.ablation_study.replacements import Replacement
from lens_utils.ablation_study.subjects import Task
from lens_utils.hooked_transformer import HookedTransformer


@dataclass(frozen=True)
class SelfRepair:
    """For each ablated head and pair, in nats of logit difference."""

    heads: tuple[Part, ...]
    readers: tuple[str, ...]
    """Names of the parts whose direct effects may change: heads, then MLPs."""
    reader_layers: tuple[int, ...]
    n_heads: int
    """How many of the readers are heads."""
    own: Float64[Tensor, "head pair"]
    """Direct effect that goes with the head."""
    lost: Float64[Tensor, "head pair"]
    """Fall of the logit difference."""
    changes: Float64[Tensor, "head reader pair"]
    """Rise of each other part's direct effect; 0 for the head itself and for parts before it."""

    @property
    def made_up(self) -> Float64[Tensor, "head pair"]:
        """own - lost."""
        return self.own - self.lost

    @property
    def by_heads(self) -> Float64[Tensor, "head pair"]:
        """Rise of the direct effects of all later heads."""
        return self.changes[:, : self.n_heads].sum(1)

    @property
    def by_mlps(self) -> Float64[Tensor, "head pair"]:
        """Rise of the direct effects of all MLPs behind the head."""
        return self.changes[:, self.n_heads :].sum(1)

    @property
    def by_norm(self) -> Float64[Tensor, "head pair"]:
        """What the changed LayerNorm scales add."""
        return self.made_up - self.by_heads - self.by_mlps


def read_hooks(model: HookedTransformer) -> dict[int, list[str]]:
    """By block: where direct effects are read off."""
    names = [hook_names.z] if model.cfg.attn_only else [hook_names.z, hook_names.mlp_out]
    return {layer: [name(layer) for name in names] for layer in range(model.cfg.n_layers)}


def self_repair(model: HookedTransformer, task: Task, replacement: Replacement, found: Directions) -> SelfRepair:
    """Every head taken out in turn, and what that does to the direct effects of all parts behind it."""
    chosen, hooks = parts.heads(model), read_hooks(model)
    layers, n_heads = range(model.cfg.n_layers), len(chosen)
    mlps = () if model.cfg.attn_only else tuple(parts.mlp(layer) for layer in layers)
    readers = (*chosen, *mlps)
    changes = torch.zeros(n_heads, len(readers), len(task.pairs), dtype=torch.float64)
    losses = torch.zeros(n_heads, len(task.pairs), dtype=torch.float64)
    for run in ablated_runs(model, task.run, chosen, replacement, read=hooks):
        rows = list(run.indices)
        losses[rows] = task.whole[0] - task.read(model, run.final)[0]
        changes[rows] = _changes(model, task, found, run.read)
    at = torch.arange(n_heads)
    own = -changes[at, at]
    changes[at, at] = 0.0
    names, places = tuple(part.name for part in readers), tuple(part.layer for part in readers)
    return SelfRepair(chosen, names, places, n_heads, own, losses, changes)


def _changes(
    model: HookedTransformer, task: Task, found: Directions, values: Mapping[str, Tensor]
) -> Float64[Tensor, "ablation reader pair"]:
    """Direct effect in the ablated runs minus in the clean one, of every head and MLP; 0 where nothing was read."""
    heads, mlps = [], []
    n = len(next(iter(values.values())))
    for layer in range(model.cfg.n_layers):
        z, out = hook_names.z(layer), hook_names.mlp_out(layer)
        if z in values:
            change = values[z] - task.run.at_scored(z)
            heads.append(head_effects(model, change, layer, found).transpose(1, 2))
        else:
            heads.append(torch.zeros(n, model.cfg.n_heads, len(task.pairs), device=model.device))
        if out in values:
            change = values[out] - task.run.at_scored(out)
            mlps.append(mlp_effects(change, layer, found).unsqueeze(1))
        elif not model.cfg.attn_only:
            mlps.append(torch.zeros(n, 1, len(task.pairs), device=model.device))
    return torch.cat([*heads, *mlps], dim=1).double().cpu()
