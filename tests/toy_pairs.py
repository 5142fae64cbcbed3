"""Prompt pairs for toy models: several lengths, one pair of unequal lengths, ends within the prompt."""

from collections.abc import Sequence

import torch

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompt_pairs import PromptPair
from lens_utils.prompts import TokenizedText


def text_of(tokens: Sequence[int], index: int = 0) -> TokenizedText:
    """A text of these tokens, each written as its number."""
    strings = tuple(map(str, tokens))
    return TokenizedText(index, " ".join(strings), torch.tensor(tokens), strings, ("word",) * len(tokens))


def pair_of(clean: Sequence[int], corrupted: Sequence[int], answers: tuple[int, int], *, masked: bool) -> PromptPair:
    """A pair aligned one to one; a masked model answers at the last position but one, others at the last."""
    assert len(clean) == len(corrupted)
    end = len(clean) - (2 if masked else 1)
    aligned = tuple((pos, pos) for pos in range(len(clean)))
    return PromptPair(text_of(clean), text_of(corrupted), *answers, end, end, aligned)


def toy_pairs(model: HookedTransformer, *, unequal: bool = False) -> tuple[PromptPair, ...]:
    """Pairs of 7, 6 and 5 tokens that differ early, twice and late; with `unequal`, one more of 7 and 8 tokens."""
    masked = model.cfg.is_masked
    pairs = [
        pair_of([1, 5, 9, 13, 17, 21, 25], [1, 6, 9, 13, 17, 21, 25], (3, 4), masked=masked),
        pair_of([2, 3, 4, 5, 6, 7], [2, 8, 4, 9, 6, 7], (20, 2), masked=masked),
        pair_of([1, 8, 12, 7, 9], [1, 8, 14, 7, 9], (10, 11), masked=masked),
    ]
    if unequal:
        clean, corrupted = [1, 4, 7, 10, 13, 16, 19], [1, 4, 22, 3, 10, 28, 16, 19]
        aligned = ((0, 0), (1, 1), (2, 2), (3, 4), (5, 6), (6, 7))
        ends = (5, 6) if masked else (6, 7)
        pairs.append(PromptPair(text_of(clean), text_of(corrupted), 12, 23, *ends, aligned))
    return tuple(pairs)
