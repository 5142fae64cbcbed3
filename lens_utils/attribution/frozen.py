"""One run, seen from one position: what its logits are made of, with everything that is not linear held fixed."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from lens_utils import hook_names
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.hooked_transformer.components import LayerNorm
from lens_utils.prompts import TokenizedText

EMBEDDINGS = {
    hook_names.EMBED: "token embedding",
    hook_names.POS_EMBED: "position embedding",
    hook_names.TOKEN_TYPE_EMBED: "token type embedding",
}


@dataclass(frozen=True)
class FrozenLayer:
    """What one block adds at the position that is read."""

    pattern: Float[Tensor, "head key"]
    """Attention of that position."""
    values: Float[Tensor, "head key d_head"]
    """Values without the part that is the same for every token (`value_bias`)."""
    post: Float[Tensor, " d_mlp"] | None
    """Neuron activations; None without an MLP."""
    scales: tuple[Float[Tensor, "1"] | None, Float[Tensor, "1"] | None]
    """Denominators of LN1 and LN2 where they stand in the residual stream itself (post-norm); None elsewhere."""
    middle: Float[Tensor, " d_model"] | None
    """Residual stream between attention and MLP (post-norm: behind LN1); None without an MLP."""
    end: Float[Tensor, " d_model"]
    """Residual stream that the block returns."""


@dataclass(frozen=True)
class FrozenRead:
    """One text's run as the logits of position `end` see it."""

    text: TokenizedText
    end: int
    embeddings: Mapping[str, Float[Tensor, " d_model"]]
    """What is added up to enter the model, by name."""
    start: Float[Tensor, " d_model"]
    """Residual stream entering block 0."""
    layers: tuple[FrozenLayer, ...]
    embed_scale: Float[Tensor, "1"] | None
    final_scale: Float[Tensor, "1"] | None
    head_scale: Float[Tensor, "1"] | None
    """Denominators of the embeddings' LayerNorm, of the final one, and of the masked-language-model head's."""
    gate: Float[Tensor, " d_model"] | None
    """act(h) / h of that head."""
    logits: Float[Tensor, " vocab"]


def frozen_hooks(model: HookedTransformer) -> tuple[str, ...]:
    """The hooks that `freeze` reads."""
    cfg = model.cfg
    hooks = [hook for hook in EMBEDDINGS if _adds(model, hook)]
    for layer in range(cfg.n_layers):
        hooks += [hook_names.pattern(layer), hook_names.v(layer), _block_end(model, layer)]
        if not cfg.attn_only:
            hooks += [hook_names.mlp_post(layer), hook_names.resid_mid(layer)]
        if cfg.post_norm:
            hooks += [hook_names.ln_scale(layer, which) for which in ((1,) if cfg.attn_only else (1, 2))]
    norms = {
        hook_names.EMBED_LN_SCALE: model.embed_ln,
        hook_names.LN_FINAL_SCALE: model.ln_final,
    }
    hooks += [hook for hook, norm in norms.items() if isinstance(norm, LayerNorm)]
    if cfg.mlm_head:
        hooks += [hook_names.MLM_HEAD_PRE, hook_names.MLM_HEAD_POST, hook_names.MLM_HEAD_LN_SCALE]
    return tuple(hooks)


def _adds(model: HookedTransformer, hook: str) -> bool:
    """Whether this embedding is added to the residual stream (shortformer positions are read beside it)."""
    if hook == hook_names.POS_EMBED:
        return model.cfg.positional_embedding_type == "standard"
    return hook == hook_names.EMBED or model.cfg.n_token_types > 0


def _block_end(model: HookedTransformer, layer: int) -> str:
    return hook_names.normalized_resid_post(layer) if model.cfg.post_norm else hook_names.resid_post(layer)


@torch.no_grad()
def freeze(model: HookedTransformer, text: TokenizedText, end: int) -> FrozenRead:
    """Run a text once and keep what the logits at position `end` are made of; `ValueError` for one outside the text."""
    if not 0 <= end < len(text):
        raise ValueError(f"end={end!r}: the text has positions 0 to {len(text) - 1}")
    hooks = frozen_hooks(model)
    logits, cache = model.run_with_cache(
        text.tokens.unsqueeze(0).to(model.device), logit_positions=[end], names_filter=list(hooks)
    )
    kept = dict(cache.items())
    embeddings = {name: kept[hook][0, end] for hook, name in EMBEDDINGS.items() if hook in hooks}
    return FrozenRead(
        text,
        end,
        embeddings,
        model.embed_ln(sum(embeddings.values())),
        tuple(_layer(model, kept, layer, end) for layer in range(model.cfg.n_layers)),
        kept[hook_names.EMBED_LN_SCALE][0, end] if hook_names.EMBED_LN_SCALE in hooks else None,
        # Behind the blocks there is only the position that was asked for
        kept[hook_names.LN_FINAL_SCALE][0, 0] if hook_names.LN_FINAL_SCALE in hooks else None,
        kept[hook_names.MLM_HEAD_LN_SCALE][0, 0] if model.cfg.mlm_head else None,
        _gate(kept) if model.cfg.mlm_head else None,
        logits[0, 0],
    )


def _layer(model: HookedTransformer, cache: Mapping[str, Tensor], layer: int, end: int) -> FrozenLayer:
    cfg, block = model.cfg, model.blocks[layer]
    values = cache[hook_names.v(layer)][0].transpose(0, 1) - value_bias(model, layer).unsqueeze(1)
    post = middle = None
    if not cfg.attn_only:
        post, middle = cache[hook_names.mlp_post(layer)][0, end], cache[hook_names.resid_mid(layer)][0, end]
        middle = block.ln1(middle) if cfg.post_norm else middle
    first = cache[hook_names.ln_scale(layer, 1)][0, end] if cfg.post_norm else None
    second = cache[hook_names.ln_scale(layer, 2)][0, end] if cfg.post_norm and not cfg.attn_only else None
    pattern = cache[hook_names.pattern(layer)][0, :, end]
    return FrozenLayer(pattern, values, post, (first, second), middle, cache[_block_end(model, layer)][0, end])


def value_bias(model: HookedTransformer, layer: int) -> Float[Tensor, "head d_head"]:
    """b_V, with LN1's bias behind W_V where attention reads through it: the part of v that no token changes.

    Rows of a pattern sum to 1, so a head adds this wherever it attends; folding moves it into b_O.
    """
    block = model.blocks[layer]
    bias = block.attn.b_V
    if model.cfg.post_norm or not isinstance(block.ln1, LayerNorm) or block.ln1.b is None:
        return bias
    return bias + einsum(block.ln1.b, block.attn.W_V, "m, h m d -> h d")


def _gate(cache: Mapping[str, Tensor]) -> Float[Tensor, " d_model"]:
    """act(h) / h, and act'(0) = 0.5 where h is 0 (gelu and silu; of relu any number does, as it is multiplied by 0)."""
    pre, post = cache[hook_names.MLM_HEAD_PRE][0, 0], cache[hook_names.MLM_HEAD_POST][0, 0]
    is_zero = pre == 0
    return torch.where(is_zero, 0.5, post / torch.where(is_zero, 1.0, pre))
