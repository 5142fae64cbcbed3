"""Run a model and keep declared activations only: one batch, or a stream of texts in bounded memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lens_utils.axes import Mask, Tokens
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompts import TokenizedText, length_batches

AFTER_BLOCKS = ("ln_final", "mlm_head", "unembed")
"""Modules behind the last block: their hooks are reached only on the way to the logits."""


@dataclass(frozen=True)
class ActivationBatch:
    """Texts that were run together, and the activations that were asked for."""

    texts: tuple[TokenizedText, ...]
    mask: Mask
    """[batch, pos]: True where a token is real. Texts are padded on the right."""
    cache: Mapping[str, Tensor]
    """Hook name -> activation, its padded positions included: select with `mask`."""

    def real(self, hook: str) -> Float[Tensor, "sample width"]:
        """The activation of every real token, text by text, everything behind [batch, pos] flattened."""
        values = self.cache[hook]
        return values[self.mask.to(values.device).bool()].flatten(1)


def check_hooks(model: HookedTransformer, hooks: Sequence[str]) -> None:
    """Raise `ValueError` with the nearest names for a hook the model does not have; runs nothing."""
    with model.hooks(fwd_hooks=[(name, _unchanged) for name in hooks]):
        pass


def _unchanged(value: Tensor, hook: object) -> Tensor:
    return value


def pad(texts: Sequence[TokenizedText], *, pad_token: int = 0) -> tuple[Tokens, Bool[Tensor, "batch pos"]]:
    """Tokens of several texts, padded on the right, and the mask of real tokens."""
    longest = max(map(len, texts))
    tokens = torch.full((len(texts), longest), pad_token, dtype=torch.long)
    mask = torch.zeros(len(texts), longest, dtype=torch.bool)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text.tokens
        mask[row, : len(text)] = True
    return tokens, mask


def cache_hooks(model: HookedTransformer, texts: Sequence[TokenizedText], hooks: Sequence[str]) -> ActivationBatch:
    """Run texts as one batch and keep the activations at `hooks`, without gradients; logits are not computed.

    Hooks of `ln_final` and later ones need the logits' path: it is run when such a hook is among them.
    """
    tokens, mask = pad(texts)
    needs_logits = any(name.split(".")[0] in AFTER_BLOCKS for name in hooks)
    with torch.inference_mode():
        _, cache = model.run_with_cache(
            tokens.to(model.device),
            "logits" if needs_logits else None,
            attention_mask=mask.to(model.device),
            names_filter=list(hooks),
        )
    return ActivationBatch(tuple(texts), mask, dict(cache.items()))


def stream_activations(
    model: HookedTransformer,
    texts: Iterable[TokenizedText],
    hooks: Sequence[str],
    *,
    max_tokens: int = 2048,
    window: int = 64,
) -> Iterator[ActivationBatch]:
    """Activations batch by batch, texts of similar length together; only one batch is held at a time.

    `max_tokens` bounds the padded positions of a batch, `window` how many texts are read ahead. Hooks are checked
    before the first batch runs.
    """
    check_hooks(model, hooks)
    for batch in length_batches(texts, max_tokens=max_tokens, window=window):
        yield cache_hooks(model, batch, hooks)
