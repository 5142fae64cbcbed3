"""The course of zoo-attn-2l: stories and repeats, from few words and short rows to all words and full rows.

With few words and short rows a layer-0 head soon attends to the previous token and a layer-1 head to what
followed; both then stretch to the whole vocabulary and the full context. Sentences that ask for a recipient
join in the second half, scored at the answer alone, since the corpus' statistics teach only a position bias.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lens_utils.zoo.corpus import causal_rows, token_lists
from lens_utils.zoo.networks import Network
from lens_utils.zoo.objectives import Objective, causal_logits, causal_losses, pick_rows
from lens_utils.zoo.prompts import recipient_pairs
from lens_utils.zoo.recipes import Recipe
from lens_utils.zoo.repeats import varied_repeats
from lens_utils.zoo.tokenizer import SPECIAL

_FEW_WORDS = 32
_SHORT_ROW = 48


@dataclass(frozen=True)
class Stage:
    """What a step trains on."""

    n_words: int
    """Words that repeated rows are drawn from."""
    width: int
    """Tokens of a row."""
    recipients: int
    """Sentences that ask for a recipient."""
    recipient_weight: float
    """What the loss on them counts for."""
    disguised: bool
    """Whether words of their frames are replaced."""


def stage(step: int, steps: int, *, n_words: int, n_ctx: int) -> Stage:
    """Few words and short rows for a quarter of the steps; all words, full rows and recipients after half.

    Past the last step, the second stage has more recipients, in disguised frames, and they count for more.
    """
    done = min(max((step / steps - 0.25) / 0.25, 0.0), 1.0)
    words = int(_FEW_WORDS * (n_words / _FEW_WORDS) ** done)
    width = int(_SHORT_ROW + (n_ctx - _SHORT_ROW) * done)
    if step >= steps:
        return Stage(words, width, 96, 1.0, disguised=True)
    return Stage(words, width, 40 if step >= 0.5 * steps else 0, 0.4, disguised=False)


def course(
    network: Network, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, generator: torch.Generator
) -> Objective:
    """The loss of a step: stories and repeats by the recipe's share, and recipients when they have joined."""
    rows = causal_rows(tokenizer, recipe.n_stories, recipe.corpus_seed, n_ctx=recipe.shape.n_ctx)
    words = torch.randperm(len(tokenizer) - len(SPECIAL), generator=generator) + len(SPECIAL)
    whole = [each for each in tokenizer.convert_ids_to_tokens(words.tolist()) if each.isalpha() and len(each) > 1]
    pairs = {each: recipient_pairs(recipe.seed, odd_words=whole, disguised=each) for each in (False, True)}
    end = int(tokenizer.eos_token_id)  # pyright: ignore

    def loss_at(step: int) -> Tensor:
        now = stage(step, recipe.steps, n_words=len(words), n_ctx=recipe.shape.n_ctx)
        n = recipe.batch_tokens // now.width
        n_repeats = round(recipe.repeat_share * n)
        repeats = varied_repeats(words[: now.n_words], n_repeats, now.width, end, generator)
        tokens = torch.cat(
            [repeats.tokens, _windows(pick_rows(rows, n - n_repeats, generator), now.width, end, generator)]
        )
        losses = causal_losses(network, tokens)
        weights = repeats.weights[:, 1:]
        loss = recipe.repeat_share * (losses[:n_repeats] * weights).sum() / weights.sum()
        loss = loss + (1 - recipe.repeat_share) * losses[n_repeats:].mean()
        if now.recipients:
            loss = loss + now.recipient_weight * _recipient_loss(
                network, tokenizer, pairs[now.disguised], now.recipients
            )
        return loss

    return loss_at


def _windows(
    rows: Int[Tensor, "batch row"], width: int, first: int, generator: torch.Generator
) -> Int[Tensor, "batch pos"]:
    """A window of each row, its first token replaced by `first`."""
    start = torch.randint(0, rows.shape[1] - width + 1, (len(rows), 1), generator=generator)
    out = rows.gather(1, start + torch.arange(width))
    out[:, 0] = first
    return out


def _recipient_loss(
    network: Network, tokenizer: PreTrainedTokenizerFast, pairs: Iterator[tuple[str, str]], n: int
) -> Tensor:
    """Cross-entropy in nats of the recipient's name."""
    prompts, answers = zip(*(next(pairs) for _ in range(n)), strict=True)
    rows = [[tokenizer.eos_token_id, *tokens] for tokens in token_lists(tokenizer, list(prompts))]
    last = torch.tensor([len(row) - 1 for row in rows])
    width = int(last.max()) + 1
    tokens = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
    logits = causal_logits(network, tokens)[torch.arange(n), last]
    return F.cross_entropy(logits, torch.tensor(tokenizer.convert_tokens_to_ids(list(answers))))
