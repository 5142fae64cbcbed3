"""Stories as token tensors: rows for causal models, sentence windows for masked ones."""

import re
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lens_utils.zoo.stories import Split, stories

_SENTENCE = re.compile(r'(?<=[.!?])(?: |(?<=["!.?]") )(?=["A-Z])')


def token_lists(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """The token ids of each text, without special tokens."""
    return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]  # pyright: ignore


def causal_rows(
    tokenizer: PreTrainedTokenizerFast, n: int, seed: int, *, n_ctx: int, split: Split = "train"
) -> Int[Tensor, "row pos"]:
    """Rows of n_ctx tokens, each the end-of-text mark and a story from its start, filled up with more stories."""
    end = tokenizer.eos_token_id
    rows: list[list[int]] = []
    row: list[int] = []
    for tokens in token_lists(tokenizer, list(stories(n, seed, split=split))):
        row += [end, *tokens]
        if len(row) >= n_ctx:
            rows.append(row[:n_ctx])
            row = []
    return torch.tensor(rows, dtype=torch.long)


@dataclass(frozen=True)
class Sentences:
    """A corpus as one run of tokens, with where each sentence starts."""

    tokens: Int[Tensor, "total"]
    starts: Int[Tensor, "sentence"]
    """Index in `tokens` of each sentence's first token, and of the end of the corpus last."""
    first: Bool[Tensor, "sentence"]
    """Whether the sentence begins a story."""


def sentences(tokenizer: PreTrainedTokenizerFast, n: int, seed: int, *, split: Split = "train") -> Sentences:
    """n stories, cut into sentences."""
    pieces, first = [], []
    for text in stories(n, seed, split=split):
        parts = _SENTENCE.split(text)
        pieces += parts
        first += [True] + [False] * (len(parts) - 1)
    lists = token_lists(tokenizer, pieces)
    starts = torch.tensor([0, *(len(tokens) for tokens in lists)]).cumsum(0)
    flat = torch.tensor([token for tokens in lists for token in tokens], dtype=torch.long)
    return Sentences(flat, starts, torch.tensor([*first, True]))
