"""What evaluation measures on a model: head scores, losses, answers."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lens_utils.hook_names import pattern
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.zoo.corpus import token_lists
from lens_utils.zoo.objectives import causal_losses
from lens_utils.zoo.prompts import NameRecipientPrompt
from lens_utils.zoo.repeats import twice
from lens_utils.zoo.stories import generator_entropy, stories
from lens_utils.zoo.tokenizer import SPECIAL


def repeated_rows(model: HookedTransformer, *, n: int = 16, seed: int = 0) -> Int[Tensor, "batch pos"]:
    """Rows that say the same random words twice over nearly the whole context, after the end-of-text mark."""
    generator = torch.Generator().manual_seed(1000 + seed)
    words = torch.arange(len(SPECIAL), model.cfg.d_vocab)
    return twice(words, n, (model.cfg.n_ctx - 1) // 2, model.tokenizer.eos_token_id, generator)


@torch.no_grad()
def head_scores(model: HookedTransformer, tokens: Int[Tensor, "batch pos"]) -> dict[str, Float[Tensor, "layer head"]]:
    """Mean attention to the previous token (all rows but the first) and, in the second copy, to the token after the
    current one's earlier occurrence, on rows that `repeated_rows` makes."""
    half = (tokens.shape[1] - 1) // 2
    previous, induction = [], []
    for layer in range(model.cfg.n_layers):
        _, cache = model.run_with_cache(tokens, names_filter=pattern(layer), return_type=None)
        attention = cache[pattern(layer)]
        query = torch.arange(1, tokens.shape[1])
        previous.append(attention[:, :, query, query - 1].mean((0, 2)))
        query = torch.arange(half + 1, tokens.shape[1])
        induction.append(attention[:, :, query, query - half + 1].mean((0, 2)))
    return {"previous": torch.stack(previous), "induction": torch.stack(induction)}


@torch.no_grad()
def second_copy_loss(model: HookedTransformer, tokens: Int[Tensor, "batch pos"]) -> float:
    """Mean loss in nats on the second copy, its first token (which nothing foretells) left out."""
    half = (tokens.shape[1] - 1) // 2
    return float(causal_losses(model, tokens)[:, half + 1 :].mean())


@torch.no_grad()
def recipient_accuracy(model: HookedTransformer, prompts: list[NameRecipientPrompt]) -> dict[str, float]:
    """Share of prompts, by name order, where the recipient's name has the highest logit of the whole vocabulary."""
    right: dict[str, list[float]] = {}
    tokenizer: Any = model.tokenizer
    for tokens, each in zip(token_lists(tokenizer, [each.prompt for each in prompts]), prompts, strict=True):
        logits = model(torch.tensor([[tokenizer.eos_token_id, *tokens]]), logit_positions=[-1])[0, 0]
        best = int(logits.argmax())
        right.setdefault(each.order, []).append(float(best == tokenizer.convert_tokens_to_ids(each.io)))
    return {order: sum(each) / len(each) for order, each in right.items()}


@torch.no_grad()
def whole_story_nats(model: Any, tokenizer: Any, n: int, seed: int) -> tuple[float, float]:
    """The model's loss on n whole held-out stories, and the bound on the generator's entropy, both in nats a token.

    Stories that do not fit the context are left out of the loss; the end of a story counts as one more token.
    """
    texts = list(stories(n, seed, split="heldout"))
    rows = [[tokenizer.eos_token_id, *tokens, tokenizer.eos_token_id] for tokens in token_lists(tokenizer, texts)]
    fitting = [torch.tensor([row]) for row in rows if len(row) <= tokenizer.model_max_length]
    losses = torch.cat([causal_losses(model, row)[0] for row in fitting])
    return float(losses.mean()), generator_entropy(n, seed, split="heldout")[0] / sum(len(row) - 1 for row in rows)


def bigram_counts(rows: Int[Tensor, "row pos"], n: int) -> Float[Tensor, "vocab vocab"]:
    """How often each token (row) is followed by each (column)."""
    index = rows[:, :-1].flatten() * n + rows[:, 1:].flatten()
    return torch.bincount(index, minlength=n * n).view(n, n).float()


def bigram_divergence(
    logits: Float[Tensor, "vocab vocab"], counts: Float[Tensor, "vocab vocab"], frequency: Float[Tensor, "vocab"]
) -> float:
    """Mean over tokens, weighted by `frequency`, of KL(counted next tokens || predicted ones), in nats.

    Tokens that `counts` never shows are left out.
    """
    totals = counts.sum(1)
    empirical = counts / totals.clamp(min=1)[:, None]
    log_ratio = torch.where(counts > 0, empirical.clamp(min=1e-30).log() - F.log_softmax(logits, -1), 0.0)
    weight = torch.where(totals > 0, frequency, 0.0)
    return float(((empirical * log_ratio).sum(1) * weight).sum() / weight.sum())
