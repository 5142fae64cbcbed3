"""The parts of a logit at four levels: components, heads, neurons, source tokens; each level sums to the logit."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float64
from torch import Tensor

from lens_utils.attribution.aims import Aim, directions, offsets
from lens_utils.attribution.frozen import FrozenRead, value_bias
from lens_utils.attribution.readout import ReadVectors, read_vectors
from lens_utils.hooked_transformer import HookedTransformer


@dataclass(frozen=True)
class Parts:
    """What each part adds to each target, in nats; together they are the target."""

    embeddings: Mapping[str, Float64[Tensor, " target"]]
    heads: Float64[Tensor, "layer head target"]
    """Values that tokens brought along; b_V's part is the same for any pattern and counts as a bias."""
    mlps: Float64[Tensor, "mlp_layer target"]
    """Neurons without b_out; no layers without MLPs."""
    biases: Mapping[str, Float64[Tensor, " target"]]
    """b_O (with the values' biases behind W_O), b_out, biases of LayerNorms and of the read-out, b_U."""

    @property
    def components(self) -> dict[str, Float64[Tensor, " target"]]:
        """By name: embeddings, each layer's heads together, each MLP, each bias."""
        found = dict(self.embeddings)
        for layer, heads in enumerate(self.heads):
            found[f"L{layer} attention"] = heads.sum(0)
            if len(self.mlps):
                found[f"L{layer} MLP"] = self.mlps[layer]
        return found | dict(self.biases)

    @property
    def besides_heads(self) -> Float64[Tensor, " target"]:
        """Sum of all that is not a head."""
        return torch.stack([*self.embeddings.values(), *self.biases.values(), *self.mlps]).sum(0)

    @property
    def besides_neurons(self) -> Float64[Tensor, " target"]:
        """Sum of all that is not a neuron."""
        rest = torch.stack([*self.embeddings.values(), *self.biases.values()]).sum(0)
        return rest + self.heads.sum((0, 1))


@torch.no_grad()
def decompose(model: HookedTransformer, run: FrozenRead, aims: list[Aim]) -> tuple[Parts, ReadVectors]:
    """What every component and head of a frozen run adds to each aim, and the vectors that finer parts are read with.

    head: (sum over j of A_j v_j) W_O g; MLP: post W_out g; g is `ReadVectors` of the place (Elhage et al. 2021).
    """
    vectors = read_vectors(model, run, directions(model, aims))
    biases: dict[str, Tensor] = {}
    heads, mlps = [], []
    for layer, frozen in enumerate(run.layers):
        attn, g = model.blocks[layer].attn, vectors.attn[layer]
        z = einsum(frozen.pattern, frozen.values, "h k, h k d -> h d")
        heads.append(einsum(z, attn.W_O, g, "h d, h d m, t m -> h t"))
        shared = attn.b_O + einsum(value_bias(model, layer), attn.W_O, "h d, h d m -> m")
        biases[f"L{layer} attention bias"] = g @ shared
        mlp = model.blocks[layer].mlp
        if mlp is not None and frozen.post is not None:
            g = vectors.mlp[layer]
            mlps.append(g @ (frozen.post @ mlp.W_out))
            biases[f"L{layer} MLP bias"] = g @ mlp.b_out
    biases |= {**vectors.biases, "b_U": offsets(model, aims)}
    parts = Parts(
        {name: _exact(vectors.embeddings @ vector) for name, vector in run.embeddings.items()},
        _stacked(heads, (model.cfg.n_heads, len(aims))),
        _stacked(mlps, (len(aims),)),
        {name: _exact(value) for name, value in biases.items()},
    )
    return parts, vectors


@torch.no_grad()
def neuron_parts(
    model: HookedTransformer, run: FrozenRead, vectors: ReadVectors, *, target: int = 0
) -> Float64[Tensor, "layer d_mlp"]:
    """Each neuron's part of one of the targets: post_n W_out[n] g; no layers without MLPs."""
    found = [
        frozen.post * (block.mlp.W_out @ g[target])
        for block, frozen, g in zip(model.blocks, run.layers, vectors.mlp, strict=bool(vectors.mlp))
        if block.mlp is not None and frozen.post is not None
    ]
    return _stacked(found, (model.cfg.d_mlp or 0,))


@torch.no_grad()
def source_parts(
    model: HookedTransformer, run: FrozenRead, vectors: ReadVectors, *, target: int = 0
) -> Float64[Tensor, "layer head key"]:
    """Each head's part of one of the targets by the token it comes from: A_j v_j W_O g, v as in `Parts.heads`."""
    found = []
    for block, frozen, g in zip(model.blocks, run.layers, vectors.attn, strict=True):
        read = einsum(block.attn.W_O, g[target], "h d m, m -> h d")
        found.append(frozen.pattern * einsum(frozen.values, read, "h k d, h d -> h k"))
    return _stacked(found, (model.cfg.n_heads, len(run.text)))


def source_attention(model: HookedTransformer, run: FrozenRead) -> Float64[Tensor, "layer head key"]:
    """A_j of every head at the position that is read."""
    return _stacked([frozen.pattern for frozen in run.layers], (model.cfg.n_heads, len(run.text)))


def _stacked(layers: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    return _exact(torch.stack(layers)) if layers else torch.zeros(0, *shape, dtype=torch.float64)


def _exact(values: Tensor) -> Tensor:
    """Sums are taken in float64, so that only the model's own rounding remains."""
    return values.cpu().double()
