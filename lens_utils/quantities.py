"""Which activations are described: a hook, or a hook with gain and bias applied; and where each row comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import AFTER_BLOCKS, ActivationBatch, check_hooks
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.word_classes import WORD_CLASSES

_PER_HEAD = (hook_names.pattern, hook_names.attn_scores)
"""Attention rows, [batch, head, query, key]: no vector a token."""


@dataclass(frozen=True)
class Quantity:
    """An activation to describe: a hook, or a hook times a gain plus a bias."""

    label: str
    """Name in tables: the hook's, with `* w + b` where gain and bias are applied."""
    hook: str
    layer: int
    """Block it belongs to; the number of blocks for what comes after the last."""
    gain: Float[Tensor, " d_model"] | None = None
    bias: Float[Tensor, " d_model"] | None = None

    def of(self, batch: ActivationBatch) -> Float[Tensor, "sample width"]:
        """The quantity at every real token of a batch."""
        values = batch.real(self.hook)
        return values if self.gain is None or self.bias is None else values * self.gain + self.bias


def standard_quantities(model: HookedTransformer) -> tuple[tuple[Quantity, ...], tuple[str, ...]]:
    """attn_out, MLP pre, post and output of every block, and the final LayerNorm before and after gain and bias.

    Second: what is replaced or missing in this model, in words. A post-norm model has no ln_final: the second LayerNorm
    of its last block stands in for it. Without gain and bias (LNPre) only `before` exists; without LayerNorm, neither.
    """
    cfg = model.cfg
    if cfg.attn_only or cfg.n_layers < 1:
        raise ValueError(f"model {cfg.model_name!r} has no MLP: its activations cannot be described; choose another")
    names = (hook_names.attn_out, hook_names.mlp_pre, hook_names.mlp_post, hook_names.mlp_out)
    blocks = [Quantity(name(layer), name(layer), layer) for layer in range(cfg.n_layers) for name in names]
    if cfg.normalization_type is None:
        return tuple(blocks), ("The model has no LayerNorm: there is no final normalised residual stream.",)
    notes: tuple[str, ...] = ()
    hook = hook_names.LN_FINAL_NORMALIZED
    norm: Any = model.ln_final
    if cfg.post_norm:
        hook = hook_names.ln_normalized(cfg.n_layers - 1, 2)
        norm = model.blocks[-1].ln2
        notes = (f"Post-norm blocks have no {hook_names.LN_FINAL_NORMALIZED}: {hook} stands in for it.",)
    final = [Quantity(hook, hook, cfg.n_layers)]
    if cfg.normalization_type == "LNPre":
        notes = (*notes, f"Gain and bias are folded away (LNPre): {hook} has no 'after gain and bias'.")
    else:
        final.append(Quantity(f"{hook} * w + b", hook, cfg.n_layers, norm.w.detach(), norm.b.detach()))
    return (*blocks, *final), notes


def chosen_quantities(model: HookedTransformer, hooks: Sequence[str]) -> tuple[tuple[Quantity, ...], tuple[str, ...]]:
    """The quantities at these hooks (none given: the standard ones), and notes on the model.

    Any hook with axes [batch, pos, ...] will do; what is behind them is flattened. The final LayerNorm comes with its
    version after gain and bias. Raises `ValueError` with the nearest names for a hook the model does not have.
    """
    standard, notes = standard_quantities(model)
    if not hooks:
        return standard, notes
    check_hooks(model, hooks)
    per_head = {name(layer) for name in _PER_HEAD for layer in range(model.cfg.n_layers)}
    chosen: list[Quantity] = []
    for hook in dict.fromkeys(hooks):
        if hook in per_head:
            raise ValueError(f"hook {hook!r} has no axes [batch, pos, ...]: attention rows are not token vectors")
        known = [quantity for quantity in standard if quantity.hook == hook]
        chosen += known or [Quantity(hook, hook, _layer(hook, model.cfg.n_layers))]
    return tuple(chosen), notes


def _layer(hook: str, n_layers: int) -> int:
    parts = hook.split(".")
    if parts[0] == "blocks":
        return int(parts[1])
    return n_layers if parts[0] in AFTER_BLOCKS else 0


@dataclass(frozen=True)
class TokenRows:
    """Where the rows of `ActivationBatch.real` come from."""

    places: Int[Tensor, "sample 2"]
    """(index of the text, position)."""
    classes: Int[Tensor, " sample"]
    """Index into WORD_CLASSES."""

    @classmethod
    def of(cls, batch: ActivationBatch) -> "TokenRows":
        """The rows of a batch: text by text, position by position."""
        places = [(text.index, pos) for text in batch.texts for pos in range(len(text))]
        classes = [WORD_CLASSES.index(name) for text in batch.texts for name in text.classes]
        return cls(torch.tensor(places, dtype=torch.long), torch.tensor(classes, dtype=torch.long))
