"""What each part writes straight to the logit difference, every LayerNorm scale and gate frozen at its clean value.

With frozen scales everything behind a part's output is linear: logit difference = sum over parts of output . direction,
+ a constant. Post-norm blocks scale what passes through them once more, so each block has directions of its own. What
an MLP makes of a head's output counts for the MLP.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from lens_utils import hook_names
from lens_utils.ablation_study.subjects import Task
from lens_utils.attribution.frozen import freeze
from lens_utils.attribution.readout import read_vectors
from lens_utils.hooked_transformer import HookedTransformer

Direction = Float[Tensor, "pair d_model"]


@dataclass(frozen=True)
class Directions:
    """How far a unit of output at the end position moves each pair's logit difference, in nats."""

    attention: tuple[Direction, ...]
    """Of each block's attention."""
    mlp: tuple[Direction, ...]
    """Of each block's MLP; empty without MLPs."""
    constant: Float[Tensor, " pair"]
    """What embeddings and biases add, the biases of attention and MLP outputs not among them."""


@torch.no_grad()
def directions(model: HookedTransformer, task: Task) -> Directions:
    """Directions of every part: `attribution.read_vectors` of each clean prompt at its end."""
    wanted = model.W_U.T[task.answers] - model.W_U.T[task.wrong]
    attention, mlp, constant = [], [], []
    for pair, direction in zip(task.pairs, wanted, strict=True):
        run = freeze(model, pair.clean, pair.clean_end)
        found = read_vectors(model, run, direction.unsqueeze(0))
        attention.append(torch.cat(found.attn))
        mlp.append(torch.cat(found.mlp) if found.mlp else direction.new_zeros(0, len(direction)))
        embedded = torch.stack(list(run.embeddings.values())).sum(0) @ found.embeddings[0]
        constant.append(embedded + sum(bias[0] for bias in found.biases.values()))
    offset = model.b_U[task.answers] - model.b_U[task.wrong]
    of_attention, of_mlp = (tuple(torch.stack(each, dim=1)) for each in (attention, mlp))
    return Directions(of_attention, of_mlp, torch.stack(constant) + offset)


@torch.inference_mode()
def head_effects(
    model: HookedTransformer, z: Float[Tensor, "ablation pair head d_head"], layer: int, found: Directions
) -> Float[Tensor, "ablation pair head"]:
    """Direct effects of a block's heads, from z at the end positions."""
    read = einsum(model.W_O[layer], found.attention[layer], "head d_head m, pair m -> pair head d_head")
    return einsum(z, read, "n pair head d_head, pair head d_head -> n pair head")


def mlp_effects(
    out: Float[Tensor, "ablation pair d_model"], layer: int, found: Directions
) -> Float[Tensor, "ablation pair"]:
    """Direct effects of a block's MLP, from its output at the end positions."""
    return einsum(out, found.mlp[layer], "n pair m, pair m -> n pair")


@torch.inference_mode()
def neuron_effects(model: HookedTransformer, task: Task, layer: int, found: Directions) -> Float[Tensor, "pair d_mlp"]:
    """Direct effects of a block's neurons: activation at the end position times W_out . direction."""
    block: Any = model.blocks[layer]
    return task.run.at_scored(hook_names.mlp_post(layer)) * (found.mlp[layer] @ block.mlp.W_out.T)


@torch.inference_mode()
def direct_sum(model: HookedTransformer, task: Task, found: Directions) -> Float[Tensor, " pair"]:
    """All direct effects and constants of the clean run together: the logit difference."""
    run = task.run
    total = found.constant
    for layer in range(model.cfg.n_layers):
        block: Any = model.blocks[layer]
        total = total + head_effects(model, run.at_scored(hook_names.z(layer))[None], layer, found)[0].sum(-1)
        total = total + found.attention[layer] @ block.attn.b_O
        if not model.cfg.attn_only:
            total = total + mlp_effects(run.at_scored(hook_names.mlp_out(layer))[None], layer, found)[0]
    return total
