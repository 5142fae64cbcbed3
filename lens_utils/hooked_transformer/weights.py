"""Weights of all layers at once, under TransformerLens' names."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens import FactoredMatrix

from lens_utils.hooked_transformer.block import TransformerBlock
from lens_utils.hooked_transformer.components import Embed, PosEmbed, Unembed
from lens_utils.hooked_transformer.config import HookedTransformerConfig


class WeightProperties(nn.Module):
    """Read-only views: `W_Q [layer, head, d_model, d_head]` and so on; with no layers, tensors of zero rows."""

    cfg: HookedTransformerConfig
    embed: Embed
    pos_embed: PosEmbed
    unembed: Unembed
    blocks: Sequence[TransformerBlock]

    def _stack(self, part: str, name: str) -> Tensor:
        if part == "mlp" and self.cfg.attn_only:
            raise AttributeError(f"{name}: model {self.cfg.model_name!r} has no MLP")
        layers = [getattr(getattr(block, part), name) for block in self.blocks]
        return torch.stack(layers) if layers else self._no_layers(name)

    def _no_layers(self, name: str) -> Tensor:
        cfg = self.cfg
        shapes = {
            **dict.fromkeys(("W_Q", "W_K", "W_V"), (cfg.n_heads, cfg.d_model, cfg.d_head)),
            "W_O": (cfg.n_heads, cfg.d_head, cfg.d_model),
            **dict.fromkeys(("b_Q", "b_K", "b_V"), (cfg.n_heads, cfg.d_head)),
            **dict.fromkeys(("b_O", "b_out"), (cfg.d_model,)),
            "W_in": (cfg.d_model, cfg.d_mlp or 0),
            "W_out": (cfg.d_mlp or 0, cfg.d_model),
            "b_in": (cfg.d_mlp or 0,),
        }
        return self.W_U.new_zeros(0, *shapes[name])

    @property
    def W_E(self) -> Float[Tensor, "vocab d_model"]:
        """Token embedding."""
        return self.embed.W_E

    @property
    def W_pos(self) -> Float[Tensor, "n_ctx d_model"]:
        """Position embedding."""
        if self.cfg.positional_embedding_type == "none":
            raise AttributeError(f"W_pos: model {self.cfg.model_name!r} has no position embedding")
        return self.pos_embed.W_pos

    @property
    def W_U(self) -> Float[Tensor, "d_model vocab"]:
        """Unembedding."""
        return self.unembed.W_U

    @property
    def b_U(self) -> Float[Tensor, "vocab"]:
        """Unembedding bias."""
        return self.unembed.b_U

    @property
    def W_Q(self) -> Float[Tensor, "layer head d_model d_head"]:
        """Query weights."""
        return self._stack("attn", "W_Q")

    @property
    def W_K(self) -> Float[Tensor, "layer head d_model d_head"]:
        """Key weights."""
        return self._stack("attn", "W_K")

    @property
    def W_V(self) -> Float[Tensor, "layer head d_model d_head"]:
        """Value weights."""
        return self._stack("attn", "W_V")

    @property
    def W_O(self) -> Float[Tensor, "layer head d_head d_model"]:
        """Output weights."""
        return self._stack("attn", "W_O")

    @property
    def b_Q(self) -> Float[Tensor, "layer head d_head"]:
        """Query biases."""
        return self._stack("attn", "b_Q")

    @property
    def b_K(self) -> Float[Tensor, "layer head d_head"]:
        """Key biases."""
        return self._stack("attn", "b_K")

    @property
    def b_V(self) -> Float[Tensor, "layer head d_head"]:
        """Value biases."""
        return self._stack("attn", "b_V")

    @property
    def b_O(self) -> Float[Tensor, "layer d_model"]:
        """Attention output biases."""
        return self._stack("attn", "b_O")

    @property
    def W_in(self) -> Float[Tensor, "layer d_model d_mlp"]:
        """MLP input weights; column n is what neuron n reads."""
        return self._stack("mlp", "W_in")

    @property
    def W_out(self) -> Float[Tensor, "layer d_mlp d_model"]:
        """MLP output weights; row n is what neuron n writes."""
        return self._stack("mlp", "W_out")

    @property
    def b_in(self) -> Float[Tensor, "layer d_mlp"]:
        """Neuron biases."""
        return self._stack("mlp", "b_in")

    @property
    def b_out(self) -> Float[Tensor, "layer d_model"]:
        """MLP output biases."""
        return self._stack("mlp", "b_out")

    @property
    def QK(self) -> FactoredMatrix:
        """W_Q W_K^T of every layer and head, factored; scores are x_query QK x_key^T / divisor (biases apart)."""
        return FactoredMatrix(self.W_Q, self.W_K.transpose(-1, -2))

    @property
    def OV(self) -> FactoredMatrix:
        """W_V W_O of every layer and head, factored: what attending to a token adds to the residual stream."""
        return FactoredMatrix(self.W_V, self.W_O)

    def all_head_labels(self) -> list[str]:
        """`L0H0`, `L0H1`, ... in the order of the stacked weights."""
        return [f"L{layer}H{head}" for layer in range(self.cfg.n_layers) for head in range(self.cfg.n_heads)]

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, "d_model"]:
        """Sum of b_O and b_out written before `layer` (and b_O of that layer, if `mlp_input`); pre-norm models."""
        total = self.W_U.new_zeros(self.cfg.d_model)
        for index in range(layer):
            total = total + self.blocks[index].attn.b_O
            mlp = self.blocks[index].mlp
            if include_mlp_biases and mlp is not None:
                total = total + mlp.b_out
        if mlp_input:
            total = total + self.blocks[layer].attn.b_O
        return total
