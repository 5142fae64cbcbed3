"""Batches for masked models: windows of whole sentences with some words hidden."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lens_utils.zoo.corpus import Sentences
from lens_utils.zoo.tokenizer import SPECIAL

_SHORT = 24
_HIDDEN = 0.2


@dataclass(frozen=True)
class MaskedBatch:
    """Tokens with some hidden, what was hidden, and which positions hold text."""

    tokens: Int[Tensor, "batch pos"]
    attention_mask: Int[Tensor, "batch pos"]
    hidden: Bool[Tensor, "batch pos"]
    targets: Int[Tensor, "hidden"]


def masked_batch(
    data: Sentences, tokenizer: PreTrainedTokenizerFast, batch_tokens: int, n_ctx: int, generator: torch.Generator
) -> MaskedBatch:
    """Short windows half of the time, full-context windows otherwise, with one word in five hidden.

    Of the hidden words 80 % become [MASK], 10 % a random word, 10 % stay; special tokens are never hidden.
    """
    short = bool(torch.rand((), generator=generator) < 0.5)
    width = _SHORT if short else n_ctx
    tokens, mask = _windows(data, tokenizer, batch_tokens // width, width, generator)
    text = tokens >= len(SPECIAL)
    hidden = (torch.rand(tokens.shape, generator=generator) < _HIDDEN) & text
    fate = torch.rand(tokens.shape, generator=generator)
    random_word = torch.randint(len(SPECIAL), len(tokenizer), tokens.shape, generator=generator)
    shown = torch.where(hidden & (fate < 0.8), tokenizer.mask_token_id, tokens)  # pyright: ignore
    shown = torch.where(hidden & (fate > 0.9), random_word, shown)
    return MaskedBatch(shown, mask, hidden, tokens[hidden])


def _windows(
    data: Sentences, tokenizer: PreTrainedTokenizerFast, n: int, width: int, generator: torch.Generator
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """n windows [CLS] text [SEP] that start where a sentence starts; short ones hold one to three whole sentences."""
    chosen = torch.randint(0, len(data.starts) - 1, (n,), generator=generator)
    start = data.starts[chosen]
    room = width - 2
    if width == _SHORT:
        last = (chosen + torch.randint(1, 4, (n,), generator=generator)).clamp(max=len(data.starts) - 1)
        two = data.starts[last] - start
        one = data.starts[chosen + 1] - start
        length = torch.where(two <= room, two, one).clamp(max=room)
    else:
        length = (len(data.tokens) - start).clamp(max=room)
    position = torch.arange(width)
    inside = (position >= 1) & (position <= length[:, None])
    index = (start[:, None] + position - 1).clamp(0, len(data.tokens) - 1)
    tokens = torch.where(inside, data.tokens[index], tokenizer.pad_token_id)  # pyright: ignore
    tokens[:, 0] = tokenizer.cls_token_id
    tokens[torch.arange(n), length + 1] = tokenizer.sep_token_id
    return tokens, (position <= length[:, None] + 1).long()
