"""Both runs of several prompt pairs, kept: the base run that is changed, and the values that are put into it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import pad
from lens_utils.axes import Resid
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.hooked_transformer.components import causal_mask
from lens_utils.hooked_transformer.masks import visible_keys
from lens_utils.prompt_pairs import PromptPair
from lens_utils.prompts import TokenizedText

Direction = Literal["denoise", "noise"]
DIRECTIONS: tuple[Direction, ...] = ("denoise", "noise")
"""denoise: the corrupted run with parts of the clean one; noise: the clean run with parts of the corrupted one."""


@dataclass(frozen=True)
class Run:
    """Several prompts run together (padded on the right), with every activation that patching needs."""

    model: HookedTransformer
    texts: tuple[TokenizedText, ...]
    mask: Bool[Tensor, "pair pos"]
    ends: Int[Tensor, " pair"]
    """Position whose logits are judged."""
    last: Resid
    """Residual stream leaving the last block."""
    cache: dict[str, Tensor] = field(repr=False)

    @property
    def n_pos(self) -> int:
        """Positions of the longest prompt."""
        return self.mask.shape[1]

    def entering(self, layer: int) -> Resid:
        """Residual stream entering a block; with `n_layers`, leaving the last one."""
        return self.last if layer == self.model.cfg.n_layers else self.cache[hook_names.resid_pre(layer)]

    def after_attention(self, layer: int) -> Resid:
        """Residual stream to which a block's attention has been added (before LN1 if post-norm)."""
        return self.entering(layer) + self.cache[hook_names.attn_out(layer)]

    def visible(self, layer: int) -> Bool[Tensor, "row 1 query key"]:
        """True where a query may attend to a key; one row for all prompts, or (padding, encoder) one a prompt."""
        cfg, device = self.model.cfg, self.model.device
        local = cfg.use_local_attn and cfg.attn_types is not None and cfg.attn_types[layer] == "local"
        # In a decoder, padding on the right is never seen from the left
        padding = self.mask.to(device) if cfg.is_masked and not bool(self.mask.all()) else None
        window = cfg.window_size if local else None
        seen = visible_keys(padding, self.n_pos, causal=not cfg.is_masked, window=window, device=device)
        if seen is not None:
            return seen
        everything = torch.ones(1, 1, self.n_pos, self.n_pos, dtype=torch.bool, device=device)
        return everything if cfg.is_masked else causal_mask(self.n_pos, device)


def engine_hooks(model: HookedTransformer) -> list[str]:
    """What every sweep reads of the base run."""
    names = (hook_names.resid_pre, hook_names.q, hook_names.k, hook_names.v, hook_names.attn_out)
    return [name(layer) for layer in range(model.cfg.n_layers) for name in names]


@torch.inference_mode()
def run_texts(
    model: HookedTransformer, texts: Sequence[TokenizedText], ends: Sequence[int], hooks: Sequence[str]
) -> Run:
    """Run prompts as one batch and keep the activations at `hooks`."""
    tokens, mask = pad(texts)
    leaving = hook_names.normalized_resid_post if model.cfg.post_norm else hook_names.resid_post
    final = leaving(model.cfg.n_layers - 1)
    _, cache = model.run_with_cache(
        tokens.to(model.device),
        None,
        attention_mask=mask.to(model.device),
        names_filter=list(dict.fromkeys([*hooks, final])),
    )
    kept = dict(cache.items())
    return Run(model, tuple(texts), mask, torch.tensor(list(ends), device=model.device), kept[final], kept)


@dataclass(frozen=True)
class Sides:
    """One direction of patching: which run is changed, and what is put into it, position by position."""

    direction: Direction
    base: Run
    source: Run
    counterpart: Int[Tensor, "pair pos"]
    """Position of the source run that stands for each position of the base run; -1 for none."""
    clean_positions: Int[Tensor, "pair pos"]
    """Position of the clean prompt that each position of the base run stands for; -1 for none."""

    def patch(self, hook: str) -> Tensor:
        """The source's activation at base positions; the base's own where there is no counterpart.

        [pair, pos, ...]; of patterns [pair, head, query, key], which need prompts of equal length.
        """
        own, other = self.base.cache[hook], self.source.cache[hook]
        if own.shape == other.shape and bool((self.counterpart == self._straight()).all()):
            return other
        index = self.counterpart.clamp(min=0).to(own.device)
        moved = other[torch.arange(len(index), device=own.device)[:, None], index]
        known = (self.counterpart >= 0).to(own.device).reshape(*index.shape, *[1] * (own.ndim - 2))
        return torch.where(known, moved, own)

    def _straight(self) -> Tensor:
        positions = torch.arange(self.base.n_pos).expand_as(self.counterpart)
        return torch.where(self.base.mask, positions, self.counterpart)


def both_sides(pairs: Sequence[PromptPair], clean: Run, corrupted: Run, direction: Direction) -> Sides:
    """The two runs in the order of a direction, with their positions aligned."""
    denoise = direction == "denoise"
    base, source = (corrupted, clean) if denoise else (clean, corrupted)
    counterpart = torch.full((len(pairs), base.n_pos), -1)
    clean_positions = torch.full((len(pairs), base.n_pos), -1)
    for row, pair in enumerate(pairs):
        for in_clean, in_corrupted in pair.aligned:
            here, there = (in_corrupted, in_clean) if denoise else (in_clean, in_corrupted)
            counterpart[row, here] = there
            clean_positions[row, here] = in_clean
    return Sides(direction, base, source, counterpart, clean_positions)
