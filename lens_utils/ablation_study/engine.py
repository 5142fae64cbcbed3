"""Run a model with parts taken out: rows of many ablations share a forward pass, and only what changes is run.

In the first block that an ablation touches, z and attn_out (and neurons, where only those are taken out) are the clean
run's but for what is replaced: they are not computed again. Behind attention a block works position by position, so
that in the last block only the positions that are scored are run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from lens_utils import hook_names
from lens_utils.ablation_study.parts import Part, part_hooks
from lens_utils.ablation_study.replacements import Replacement
from lens_utils.axes import Mask, Tokens
from lens_utils.hooked_transformer import HookedTransformer

POSITIONS_AT_ONCE = 4096
"""Positions of one forward pass, over all ablations in it: bounds its memory."""


@dataclass(frozen=True)
class CleanRun:
    """The unablated run of some prompts, and every value that an ablation starts from or replaces."""

    mask: Bool[Tensor, "batch pos"]
    """True where a token is real."""
    scored: Bool[Tensor, "batch pos"]
    """True where logits are wanted."""
    cache: Mapping[str, Tensor] = field(repr=False)
    """Hook -> [batch, pos, ...]."""
    final: Float[Tensor, "scored d_model"]
    """What leaves the last block."""

    def at_scored(self, hook: str) -> Float[Tensor, "scored ..."]:
        """The cached values at the scored positions, prompt by prompt."""
        return self.cache[hook][self.scored]


@dataclass(frozen=True)
class AblatedRun:
    """One forward pass of some of the ablations."""

    indices: tuple[int, ...]
    final: Float[Tensor, "ablation scored d_model"]
    read: Mapping[str, Float[Tensor, "ablation scored ..."]] = field(repr=False)
    """Values at the hooks that were asked for, as the model goes on with them."""


def clean_run(model: HookedTransformer, tokens: Tokens, mask: Mask, scored: Mask) -> CleanRun:
    """Run the prompts and keep the residual stream entering each block, and each part's values."""
    resid = [hook_names.resid_pre(layer) for layer in range(model.cfg.n_layers)]
    mask, scored = mask.bool().to(model.device), scored.bool().to(model.device)
    with torch.inference_mode():
        final, cache = model.run_with_cache(
            tokens.to(model.device),
            stop_at_layer=model.cfg.n_layers,
            attention_mask=mask,
            names_filter=[*resid, *part_hooks(model)],
        )
    return CleanRun(mask, scored, dict(cache.items()), final[scored])


def ablated_runs(
    model: HookedTransformer,
    run: CleanRun,
    parts: Sequence[Part],
    replacement: Replacement,
    *,
    read: Mapping[int, Sequence[str]] | None = None,
) -> Iterator[AblatedRun]:
    """Every part replaced in turn in all prompts of the run, as many at a time as `POSITIONS_AT_ONCE` allows.

    `read` names, block by block, hooks whose values in the ablated runs are wanted too; blocks before the part have
    none. Of the first block touched only z, and what comes behind attention, can be read.
    """
    for layer in sorted({part.layer for part in parts}):
        own = [index for index, part in enumerate(parts) if part.layer == layer]
        stretch = _Stretch(model, run, replacement, layer, read or {})
        for start in range(0, len(own), stretch.at_once):
            chosen = tuple(own[start : start + stretch.at_once])
            yield stretch.run_parts(chosen, [parts[index] for index in chosen])


class _Stretch:
    """The model from the first ablated block on, in one pass for several ablations of that block."""

    def __init__(
        self,
        model: HookedTransformer,
        run: CleanRun,
        replacement: Replacement,
        first: int,
        read: Mapping[int, Sequence[str]],
    ) -> None:
        self.model, self.run, self.replacement, self.first, self.read = model, run, replacement, first, read
        self.block: Any = model.blocks[first]
        self.last = first == model.cfg.n_layers - 1
        self.at_once = max(1, POSITIONS_AT_ONCE // int(run.scored.sum() if self.last else run.mask.numel()))

    def positions(self, values: Tensor) -> Tensor:
        """[batch, pos, ...]; in the last block the scored positions, each a row of its own: [scored, 1, ...]."""
        if not self.last or values.shape[:2] == (1, 1):
            return values
        return values.expand(*self.run.scored.shape, *values.shape[2:])[self.run.scored].unsqueeze(1)

    def run_parts(self, indices: tuple[int, ...], parts: Sequence[Part]) -> AblatedRun:
        n, seen, masks = len(parts), dict[str, Tensor](), _row_masks(parts, self.model.device)
        z, attn_out = hook_names.z(self.first), hook_names.attn_out(self.first)
        wanted = [name for layer, names in self.read.items() if layer >= self.first for name in names]
        neurons_only = masks.keys() == {hook_names.mlp_post(self.first)} and not wanted
        known = {z, attn_out} | (set(masks) if neurons_only else set())
        hooks = [(name, self._replacing(mask, name)) for name, mask in masks.items() if name not in known]
        # Behind the replacing hooks, so that what is read is what the model goes on with
        hooks += [(name, _keeping(seen, name)) for name in wanted if name not in known]
        with torch.inference_mode(), self.model.hooks(fwd_hooks=hooks):
            added, heads = self._attention(masks, n)
            if z in wanted:
                seen[z] = heads
            resid_mid = self._rows(hook_names.resid_pre(self.first), n) + added
            resid = self._neurons(resid_mid, masks, n) if neurons_only else self.block.after_attention(resid_mid)
            if not self.last:
                mask = repeat(self.run.mask, "batch pos -> (n batch) pos", n=n)
                stop = self.model.cfg.n_layers
                resid = self.model(resid, start_at_layer=self.first + 1, stop_at_layer=stop, attention_mask=mask)
        read = {name: self._scored(value, n) for name, value in seen.items()}
        return AblatedRun(indices, self._scored(resid, n), read)

    def _rows(self, hook: str, n: int) -> Float[Tensor, "rows ..."]:
        """A clean value, once for each ablation."""
        return repeat(self.positions(self.run.cache[hook]), "batch ... -> (n batch) ...", n=n)

    def _attention(self, masks: Mapping[str, Tensor], n: int) -> tuple[Tensor, Tensor]:
        """attn_out and z of the first block, from the clean ones."""
        z, attn_out, attn = hook_names.z(self.first), hook_names.attn_out(self.first), self.block.attn
        heads = self._rows(z, n)
        if z in masks:
            heads = self._replacing(masks[z], z)(heads)
            out = F.linear(heads.flatten(-2), attn.W_O.flatten(0, 1).T, attn.b_O)
        else:
            out = self._rows(attn_out, n)
        return (self._replacing(masks[attn_out], attn_out)(out) if attn_out in masks else out), heads

    def _neurons(self, resid_mid: Tensor, masks: Mapping[str, Tensor], n: int) -> Tensor:
        """What leaves the first block, from the clean activations of its neurons."""
        hook, mlp = hook_names.mlp_post(self.first), self.block.mlp
        out = F.linear(self._replacing(masks[hook], hook)(self._rows(hook, n)), mlp.W_out.T, mlp.b_out)
        return self.block.after_mlp(self.block.after_first_addition(resid_mid) + out)

    def _replacing(self, mask: Bool[Tensor, "ablation component"], name: str) -> Callable[..., Tensor]:
        def replace(value: Tensor, hook: object = None) -> Tensor:
            values = rearrange(value, "(n batch) ... -> n batch ...", n=len(mask))
            chosen = mask[:, None, None]
            chosen = chosen if values.ndim == chosen.ndim else chosen.unsqueeze(-1)
            given = self.positions(self.replacement.values[name].to(values))
            return torch.where(chosen, self.replacement.applied(name, values, given), values).flatten(0, 1)

        return replace

    def _scored(self, rows: Float[Tensor, "rows pos ..."], n: int) -> Float[Tensor, "ablation scored ..."]:
        values = rearrange(rows, "(n batch) ... -> n batch ...", n=n)
        return values.squeeze(2) if self.last else values[:, self.run.scored]


def _row_masks(parts: Sequence[Part], device: torch.device) -> dict[str, Bool[Tensor, "ablation component"]]:
    masks: dict[str, Tensor] = {}
    for row, part in enumerate(parts):
        for hook, mask in part.masks.items():
            rows = masks.setdefault(hook, torch.zeros(len(parts), len(mask), dtype=torch.bool, device=device))
            rows[row] = mask.to(device)
    return masks


def _keeping(seen: dict[str, Tensor], name: str) -> Callable[..., Tensor]:
    def keep(value: Tensor, hook: object = None) -> Tensor:
        seen[name] = value
        return value

    return keep
