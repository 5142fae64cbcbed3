"""From the logits back to every place that writes: the vector with which what is written there is multiplied.

One rule for each thing on the way, `g` being what the target reads behind it (frozen: s, the gate):

- LayerNorm (x - mean) / s * w + b: in front of it C(w g) / s, C subtracting the mean; b g is a constant
- the masked-language-model head's activation: gate * g; its dense layer x W + b: W g; b g is a constant
- a block adds to the residual stream: g goes on to what was there before, and to what the block adds
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lens_utils.attribution.frozen import FrozenRead
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.hooked_transformer.components import LayerNorm, MLMHead

Vectors = Float[Tensor, "target d_model"]


@dataclass(frozen=True)
class ReadVectors:
    """What each target reads of each place: a vector v written there adds v g to it."""

    embeddings: Vectors
    attn: tuple[Vectors, ...]
    """By layer: of what heads write."""
    mlp: tuple[Vectors, ...]
    """By layer; empty without MLPs."""
    start: Vectors
    """Of the residual stream entering block 0."""
    middle: tuple[Vectors, ...]
    """Of the residual stream between attention and MLP; empty without MLPs."""
    end: tuple[Vectors, ...]
    """Of the residual stream that each block returns."""
    biases: Mapping[str, Float[Tensor, " target"]]
    """What the biases of LayerNorms and of the masked-language-model head add, by name, in the order of the model."""
    read_out: Float[Tensor, " target"]
    """Sum of those behind the last block."""


@torch.no_grad()
def read_vectors(model: HookedTransformer, run: FrozenRead, directions: Vectors) -> ReadVectors:
    """Carry `directions` (W_U d, see `aims.directions`) back through the frozen run, at the position that is read."""
    biases: dict[str, Tensor] = {}
    g = _through_read_out(model, run, directions, biases)
    read_out = torch.stack([*biases.values(), torch.zeros_like(g[:, 0])]).sum(0)
    attn, mlp, middle, end = [], [], [], []
    for layer, (block, frozen) in reversed(list(enumerate(zip(model.blocks, run.layers, strict=True)))):
        end.append(g)
        if not model.cfg.attn_only:
            if model.cfg.post_norm:
                g = _through_norm(block.ln2, frozen.scales[1], g, (f"L{layer} LN2 bias", biases))
            mlp.append(g)
            middle.append(g)
        if model.cfg.post_norm:
            g = _through_norm(block.ln1, frozen.scales[0], g, (f"L{layer} LN1 bias", biases))
        attn.append(g)
    start = g
    g = _through_norm(model.embed_ln, run.embed_scale, g, ("embedding LN bias", biases))
    in_order = {name: biases[name] for name in reversed(biases)}
    attn, mlp, middle, end = (tuple(reversed(each)) for each in (attn, mlp, middle, end))
    return ReadVectors(g, attn, mlp, start, middle, end, in_order, read_out)


def _through_read_out(model: HookedTransformer, run: FrozenRead, g: Vectors, biases: dict[str, Tensor]) -> Vectors:
    head = model.mlm_head
    if isinstance(head, MLMHead):
        assert run.gate is not None
        g = _through_norm(head.ln, run.head_scale, g, ("head LN bias", biases)) * run.gate
        biases["head bias"] = g @ head.b
        g = g @ head.W.T
    return _through_norm(model.ln_final, run.final_scale, g, ("final LN bias", biases))


def _through_norm(norm: nn.Module, scale: Tensor | None, g: Vectors, bias: tuple[str, dict[str, Tensor]]) -> Vectors:
    """In front of a LayerNorm; what its bias adds is noted under a name. What is no LayerNorm changes nothing."""
    if not isinstance(norm, LayerNorm):
        return g
    assert scale is not None
    name, biases = bias
    if norm.w is not None and norm.b is not None:
        biases[name] = g @ norm.b
        g = g * norm.w
    return (g - g.mean(-1, keepdim=True)) / scale
