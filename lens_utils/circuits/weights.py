"""Which weights a circuit is read from, the models where that would be wrong, and the size of LayerNorm's scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import cache_hooks
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompts import TokenizedText


def check_circuits(model: HookedTransformer) -> None:
    """Raise `ValueError` with the reason where a path from the embedding to the logits is not linear as read here."""
    cfg = model.cfg
    name = f"model {cfg.model_name!r}"
    if cfg.post_norm or cfg.embed_norm:
        raise ValueError(
            f"{name} normalises what is in the residual stream itself (post-norm): no path from embedding to logits is "
            "a product of weights; choose a decoder"
        )
    if cfg.mlm_head:
        raise ValueError(f"{name} has a non-linear head before the unembedding; choose a decoder")
    if cfg.normalization_type == "LN":
        raise ValueError(
            f"{name} has LayerNorm gains and biases, which belong to the weights that read its output: "
            "load it with processing='folded'"
        )


def check_attention(model: HookedTransformer) -> None:
    """`check_circuits`, and at least one attention layer."""
    check_circuits(model)
    if model.cfg.n_layers < 1:
        raise ValueError(f"model {model.cfg.model_name!r} has no attention layer; choose one with at least 1")


def check_paths(model: HookedTransformer) -> None:
    """`check_attention`, and no MLP: with one, the sum over paths would not be the logits."""
    check_attention(model)
    if not model.cfg.attn_only:
        raise ValueError(
            f"model {model.cfg.model_name!r} has MLPs, which are not linear: the sum over paths through heads would "
            "not be the logits; choose an attention-only model"
        )


def token_vectors(model: HookedTransformer) -> Float[Tensor, "vocab d_model"]:
    """W_E, centred where the model has LayerNorm: what a head reads of each token, but for LayerNorm's scale."""
    return centred(model, model.W_E.detach())


def centred(model: HookedTransformer, vectors: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
    """Each vector minus its mean where the model has LayerNorm; as it is where not."""
    return vectors if model.cfg.normalization_type is None else vectors - vectors.mean(-1, keepdim=True)


@dataclass(frozen=True)
class Scales:
    """Typical denominators of LayerNorm: medians over tokens, first positions left out; 1 without LayerNorm.

    A circuit is a product of weights only when these are constants. `spread` says how good that is.
    """

    before: tuple[float, ...]
    """Of LN1, by layer."""
    final: float
    spread: float
    """Largest coefficient of variation (sd / mean) of them over tokens."""

    @property
    def statement(self) -> str:
        """The choice of embedding and scale, in a sentence for captions."""
        if self.spread == 0 and self.final == 1:
            return "Tokens are read as raw rows of W_E; the model has no LayerNorm."
        shown = ", ".join(f"{value:.3g}" for value in self.before)
        return (
            "LayerNorm is folded into the weights; tokens are centred rows of W_E without position, divided by the "
            f"median scale of the layer's LayerNorm on text ({shown}; final {self.final:.3g}), which varies by up to "
            f"{self.spread:.0%}."
        )


def typical_scales(model: HookedTransformer, texts: Sequence[TokenizedText]) -> Scales:
    """Median LayerNorm denominators on these texts; texts must have a second token."""
    layers = range(model.cfg.n_layers)
    if model.cfg.normalization_type is None:
        return Scales((1.0,) * len(layers), 1.0, 0.0)
    hooks = [*(hook_names.ln_scale(layer, 1) for layer in layers), hook_names.LN_FINAL_SCALE]
    batch = cache_hooks(model, texts, hooks)
    later = torch.tensor([pos > 0 for text in texts for pos in range(len(text))])
    if not bool(later.any()):
        raise ValueError("texts: each has one token only; the scale of LayerNorm needs a second")
    found = [batch.real(hook).flatten().cpu().double()[later] for hook in hooks]
    medians = [float(each.median()) for each in found]
    spread = max(float(each.std(correction=0) / each.mean()) for each in found)
    return Scales(tuple(medians[:-1]), medians[-1], spread)
