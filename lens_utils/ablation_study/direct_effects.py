"""What each part writes straight to the logit difference, every LayerNorm scale and gate frozen at its clean value.

With frozen scales everything behind a part's output is linear: logit difference = sum over parts of output . direction,
+ a constant. Post-norm blocks scale what passes through them once more, so each block has directions of its own. What
an MLP makes of a head's output counts for the MLP.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from lens_utils import hook_names
from lens_utils.ablation_study.subjects import Task
from lens_utils.hooked_transformer import HookedTransformer

Direction = Float[Tensor, "pair d_model"]


@dataclass(frozen=True)
class Directions:
    """How far a unit of output at the end position moves each pair's logit difference, in nats."""

    attention: tuple[Direction, ...]
    """Of each block's attention."""
    mlp: tuple[Direction, ...]
    """Of each block's MLP."""
    start: Direction
    """Of the residual stream that enters the first block."""
    constant: Float[Tensor, " pair"]
    """What biases add, those of attention and MLP outputs not among them."""


def scale_hooks(model: HookedTransformer) -> list[str]:
    """The blocks' hooks whose values `directions` freezes."""
    cfg = model.cfg
    if cfg.normalization_type is None or not cfg.post_norm:
        return []
    return [
        hook_names.ln_scale(layer, each)
        for layer in range(cfg.n_layers)
        for each in ((1,) if cfg.attn_only else (1, 2))
    ]


def _final_hooks(model: HookedTransformer) -> list[str]:
    cfg = model.cfg
    if cfg.mlm_head:
        return [hook_names.MLM_HEAD_PRE, hook_names.MLM_HEAD_POST, hook_names.MLM_HEAD_SCALE]
    return [hook_names.LN_FINAL_SCALE] if cfg.normalization_type is not None and not cfg.post_norm else []


def _frozen(model: HookedTransformer, task: Task) -> dict[str, Float[Tensor, "pair _"]]:
    """What stays at its clean value, at the end positions."""
    final = _final_hooks(model)
    frozen = {hook: task.run.at_scored(hook) for hook in scale_hooks(model)}
    if final:
        _, cache = model.run_with_cache(
            task.run.final.unsqueeze(1), start_at_layer=model.cfg.n_layers, names_filter=final
        )
        frozen |= {hook: cache[hook].squeeze(1) for hook in final}
    return frozen


class _Backwards:
    """Carries the directions from the logits back to the embedding, and the constants with them."""

    def __init__(self, frozen: Mapping[str, Tensor], direction: Direction, constant: Float[Tensor, " pair"]) -> None:
        self.frozen, self.direction, self.constant = frozen, direction, constant

    def norm(self, norm: Any, hook: str) -> None:
        """Through LN(x) = (x - mean) / scale * w + b."""
        if norm.w is not None:
            self.constant = self.constant + self.direction @ norm.b
            self.direction = self.direction * norm.w
        self.direction = (self.direction - self.direction.mean(-1, keepdim=True)) / self.frozen[hook]

    def mlm_head(self, head: Any) -> None:
        """Through LN(act(x W + b)), with the gate act(h) / h frozen."""
        self.norm(head.ln, hook_names.MLM_HEAD_SCALE)
        pre, post = self.frozen[hook_names.MLM_HEAD_PRE], self.frozen[hook_names.MLM_HEAD_POST]
        self.direction = self.direction * torch.where(pre == 0, 0.0, post / torch.where(pre == 0, 1.0, pre))
        self.constant = self.constant + self.direction @ head.b
        self.direction = self.direction @ head.W.T


@torch.inference_mode()
def directions(model: HookedTransformer, task: Task) -> Directions:
    """Directions of every part; `task` was run with `scale_hooks` kept."""
    cfg, blocks = model.cfg, list[Any](model.blocks)
    columns = [model.W_U.T[tokens] for tokens in (task.answers, task.wrong)]
    back = _Backwards(_frozen(model, task), columns[0] - columns[1], model.b_U[task.answers] - model.b_U[task.wrong])
    if cfg.mlm_head:
        back.mlm_head(model.mlm_head)
    elif cfg.normalization_type is not None and not cfg.post_norm:
        back.norm(model.ln_final, hook_names.LN_FINAL_SCALE)
    attention, mlp = [], []
    for layer in reversed(range(cfg.n_layers)):
        norms = cfg.post_norm and cfg.normalization_type is not None
        if norms and not cfg.attn_only:
            back.norm(blocks[layer].ln2, hook_names.ln_scale(layer, 2))
        mlp.append(back.direction)
        if norms:
            back.norm(blocks[layer].ln1, hook_names.ln_scale(layer, 1))
        attention.append(back.direction)
    return Directions(tuple(attention[::-1]), tuple(mlp[::-1]), back.direction, back.constant)


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
    total = found.constant + (run.at_scored(hook_names.resid_pre(0)) * found.start).sum(-1)
    for layer in range(model.cfg.n_layers):
        block: Any = model.blocks[layer]
        total = total + head_effects(model, run.at_scored(hook_names.z(layer))[None], layer, found)[0].sum(-1)
        total = total + found.attention[layer] @ block.attn.b_O
        if not model.cfg.attn_only:
            total = total + mlp_effects(run.at_scored(hook_names.mlp_out(layer))[None], layer, found)[0]
    return total
