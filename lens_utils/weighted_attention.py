"""Attention weighted by what is moved: three definitions that share a name elsewhere, kept apart here.

With pattern A [query, key], values v_j = x_j W_V + b_V and f(x_j) = v_j W_O:

- `attention_times_value`: (A v)_i = sum_j A_ij v_j, the head's z, a vector for each query;
- `value_norm_weighted`: A_ij ||v_j||, the weighting of "A Mathematical Framework for Transformer Circuits"
  (Elhage et al. 2021);
- `norm_weighted`: ||A_ij f(x_j)||, what reaches the residual stream (Kobayashi et al. 2020), b_O left out.

All norms are Euclidean. Since A_ij is a number, ||A_ij f(x_j)|| = A_ij ||f(x_j)||: no [query, key, d_model] is built.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import cache_hooks
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.prompts import TokenizedText

VIEWS = ("pattern", "value_norm_weighted", "norm_weighted")
"""The fields that have a weight for each query and key."""


@dataclass(frozen=True)
class WeightedAttention:
    """One text's attention in every head, raw and weighted."""

    pattern: Float[Tensor, "layer head query key"]
    value_norm_weighted: Float[Tensor, "layer head query key"]
    norm_weighted: Float[Tensor, "layer head query key"]
    attention_times_value: Float[Tensor, "layer head query d_head"]


def attention_hooks(model: HookedTransformer) -> tuple[str, ...]:
    """The hooks that are read: pattern, values, z and output of every layer."""
    layers = range(model.cfg.n_layers)
    makers = (hook_names.pattern, hook_names.v, hook_names.z, hook_names.attn_out)
    return tuple(make(layer) for layer in layers for make in makers)


def weighted_attention(
    model: HookedTransformer, text: TokenizedText
) -> tuple[WeightedAttention, tuple[Identity, Identity]]:
    """Raw and weighted attention of one text, and the identities that tie it to the model's own activations.

    Raises `ValueError` for a model without attention layers.
    """
    if not model.cfg.n_layers:
        raise ValueError(f"model {model.cfg.model_name!r} has no attention layer: it has no patterns to show")
    cache = cache_hooks(model, [text], attention_hooks(model)).cache
    layers = range(model.cfg.n_layers)
    pattern = torch.stack([cache[hook_names.pattern(layer)][0] for layer in layers])
    values = torch.stack([cache[hook_names.v(layer)][0] for layer in layers])
    z = torch.stack([cache[hook_names.z(layer)][0] for layer in layers])
    moved = einsum(
        values, model.W_O.detach(), "layer key head d_head, layer head d_head d_model -> layer head key d_model"
    )
    summed = einsum(pattern, values, "layer head query key, layer key head d_head -> layer query head d_head")
    out = einsum(pattern, moved, "layer head query key, layer head key d_model -> layer query d_model")
    attn_out = torch.stack([cache[hook_names.attn_out(layer)][0] for layer in layers])
    found = WeightedAttention(
        pattern,
        einsum(pattern, values.norm(dim=-1), "layer head query key, layer key head -> layer head query key"),
        einsum(pattern, moved.norm(dim=-1), "layer head query key, layer head key -> layer head query key"),
        z.transpose(1, 2),
    )
    scale = float(attn_out.abs().max().clamp(min=1))
    return found, (
        Identity("A v is z", "sum_j A_ij v_j = z of the model", (summed - z).abs().max().item(), 1e-4 * scale),
        Identity(
            "moved vectors sum to attn_out",
            "sum over heads and keys of A_ij f(x_j) + b_O = attn_out",
            (out + model.b_O.detach()[:, None] - attn_out).abs().max().item(),
            1e-4 * scale,
        ),
    )


def share_on(weights: Float[Tensor, "layer head query key"], keys: Sequence[int]) -> Float[Tensor, "layer head"]:
    """Mean over queries of the share of a row's weight that lies on `keys`; rows without weight do not count."""
    total = weights.sum(-1)
    share = weights[..., list(keys)].sum(-1) / total
    return share.nanmean(-1)
