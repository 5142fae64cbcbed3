"""Copying on text: how much a head raises the logit of the token it attends to, where it really attends."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float, Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import cache_hooks
from lens_utils.circuits.random_heads import random_factors
from lens_utils.circuits.weights import centred, check_attention
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.progress import track
from lens_utils.prompts import TokenizedText


@dataclass(frozen=True)
class TextCopying:
    """Sums over the cells (query, source) of each text; the mean over cells is weighted by attention."""

    raised: Float64[Tensor, "text head"]
    """sum of A_ij d_ij: d_ij is what head h adds to the logit of token j, over the mean logit, when it attends to j."""
    mass: Float64[Tensor, "text head"]
    """sum of A_ij over the same cells: sources that are no special token."""
    null: Float64[Tensor, "random head"]
    """The mean for random OV circuits of the head's norms, on the head's own pattern."""

    @property
    def mean(self) -> Float64[Tensor, " head"]:
        """Mean logit given to the token attended to, in nats; nan for a head that attends to special tokens only."""
        mass = self.mass.sum(0)
        return self.raised.sum(0) / torch.where(mass == 0, torch.nan, mass)


def text_copying(
    model: HookedTransformer, texts: Sequence[TokenizedText], *, seed: int, n_null: int = 200
) -> TextCopying:
    """sum_ij A_ij d_ij / sum_ij A_ij of every head, with d_ij = (v_j W_O) (W_U[:, t_j] - mean of W_U's columns) / s_i.

    v_j is the head's value at source j without b_V, t_j the token there, s_i the final LayerNorm's scale at query i
    (1 without LayerNorm). Special tokens do not count as sources.
    """
    check_attention(model)
    generator = torch.Generator().manual_seed(seed)
    random = random_factors(n_null, model.cfg.d_model, model.cfg.d_head, generator=generator)
    with torch.inference_mode():
        found = [_of_text(model, text, random) for text in track(texts, "copying on text")]
    raised, mass, null = (torch.stack(each).double().cpu() for each in zip(*found, strict=True))
    total = mass.sum(0)
    return TextCopying(raised, mass, null.sum(0) / torch.where(total == 0, torch.nan, total))


def _of_text(
    model: HookedTransformer, text: TokenizedText, random: tuple[Tensor, Tensor]
) -> tuple[Float[Tensor, " head"], Float[Tensor, " head"], Float[Tensor, "random head"]]:
    """sum A d, sum A and the null's sums A d of every head, layer by layer, on one text."""
    layers, has_norm = range(model.cfg.n_layers), model.cfg.normalization_type is not None
    hooks = [name(layer) for layer in layers for name in (hook_names.pattern, hook_names.v, hook_names.resid_pre)]
    if has_norm:
        hooks += [*(hook_names.ln_scale(layer, 1) for layer in layers), hook_names.LN_FINAL_SCALE]
    cache = {name: value[0] for name, value in cache_hooks(model, [text], hooks).cache.items()}
    w_u = model.W_U.detach()
    targets = w_u[:, text.tokens.to(w_u.device)] - w_u.mean(-1, keepdim=True)
    counts = torch.tensor([float(name != "special") for name in text.classes]).to(w_u)
    toward = einsum(random[1].to(w_u), targets, "r d m, m k -> r d k")
    raised, mass, null = [], [], []
    for layer in layers:
        attn, pattern = model.blocks[layer].attn, cache[hook_names.pattern(layer)] * counts
        mass.append(pattern.sum((1, 2)))
        read = centred(model, cache[hook_names.resid_pre(layer)])
        if has_norm:
            pattern = pattern / cache[hook_names.LN_FINAL_SCALE]
            read = read / cache[hook_names.ln_scale(layer, 1)]
        attended = pattern.sum(1)
        values = cache[hook_names.v(layer)] - attn.b_V
        raised.append(
            einsum(values, einsum(attn.W_O, targets, "h d m, m k -> k h d"), attended, "k h d, k h d, h k -> h")
        )
        given = einsum(einsum(read, random[0].to(w_u), "k m, r m d -> r d k"), toward, "r d k, r d k -> r k")
        size = attn.W_V.flatten(1).norm(dim=1) * attn.W_O.flatten(1).norm(dim=1)
        null.append(einsum(attended, given, size, "h k, r k, h -> r h"))
    return torch.cat(raised), torch.cat(mass), torch.cat(null, dim=1)
