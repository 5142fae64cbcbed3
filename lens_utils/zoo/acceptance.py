"""The acceptance criteria of the shipped models, measured on held-out text and on generated prompts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lens_utils.zoo import measures, words
from lens_utils.zoo.corpus import causal_rows
from lens_utils.zoo.masked_measures import agreement_accuracy, heldout_masked_loss, negation_ratios
from lens_utils.zoo.networks import Network
from lens_utils.zoo.objectives import causal_losses
from lens_utils.zoo.prompts import Part, agreement_prompts, name_recipient_prompts
from lens_utils.zoo.recipes import Recipe

NEGATION_PAIRS = words.PERSON_ANTONYMS[:10]
"""The adjective pairs that negation is tested on."""
_HELDOUT_STORIES = 400
_PROMPTS = 400
_SEED = 4201
_OPENING = "Once upon a time, there was a little"


@dataclass(frozen=True)
class Criterion:
    """One line of an evaluation."""

    criterion: str
    required: str
    """The limit, or 'reported' where there is none."""
    measured: str
    verdict: str
    """pass, FAIL, or - where there is no limit."""


def below(criterion: str, limit: float, value: float) -> Criterion:
    """A figure that must stay under a limit."""
    return Criterion(criterion, f"< {limit:g}", f"{value:.4f}", "pass" if value < limit else "FAIL")


def above(criterion: str, limit: float, value: float) -> Criterion:
    """A figure that must reach a limit."""
    return Criterion(criterion, f">= {limit:g}", f"{value:.4f}", "pass" if value >= limit else "FAIL")


def reported(criterion: str, value: str) -> Criterion:
    """A figure without a limit."""
    return Criterion(criterion, "reported", value, "-")


def criteria(recipe: Recipe, network: Network, tokenizer: Any) -> list[Criterion]:
    """Every criterion of a shipped model."""
    if recipe.masked:
        return _masked(recipe, network, tokenizer)
    rows = causal_rows(tokenizer, _HELDOUT_STORIES, 1, n_ctx=recipe.shape.n_ctx, split="heldout")
    with torch.no_grad():
        loss = float(torch.cat([causal_losses(network, part) for part in rows.split(32)]).mean())
    own: dict[str, Callable[[Any, Any, Recipe], list[Criterion]]] = {
        "zoo-attn-0l": _zero_layers, "zoo-attn-1l": _one_layer, "zoo-attn-2l": _two_layers, "zoo-stories-1l": _stories,
    }  # fmt: skip
    lines = own[recipe.name](network, tokenizer, recipe)
    return [reported("loss on held-out stories, nats a token", f"{loss:.4f}"), *lines]


def _zero_layers(model: Any, tokenizer: Any, recipe: Recipe) -> list[Criterion]:
    rows = causal_rows(tokenizer, recipe.n_stories, recipe.corpus_seed, n_ctx=recipe.shape.n_ctx)
    heldout = causal_rows(tokenizer, _HELDOUT_STORIES, 1, n_ctx=recipe.shape.n_ctx, split="heldout")
    n = len(tokenizer)
    with torch.no_grad():
        logits = model(torch.arange(n)[:, None])[:, 0]
    divergence = measures.bigram_divergence(
        logits, measures.bigram_counts(rows, n), measures.bigram_counts(heldout, n).sum(1)
    )
    return [below("KL(corpus bigram || model), weighted by held-out frequency, nats", 0.03, divergence)]


def _one_layer(model: Any, tokenizer: Any, recipe: Recipe) -> list[Criterion]:
    scores = measures.head_scores(model, measures.repeated_rows(model))
    return [below("highest induction score of any head", 0.1, float(scores["induction"].max()))]


def _two_layers(model: Any, tokenizer: Any, recipe: Recipe) -> list[Criterion]:
    tokens = measures.repeated_rows(model)
    scores = measures.head_scores(model, tokens)
    previous, induction = scores["previous"][0], scores["induction"][1]
    lines = [
        above(f"previous-token score of L0H{int(previous.argmax())}", 0.8, float(previous.max())),
        above(f"induction score of L1H{int(induction.argmax())}", 0.9, float(induction.max())),
        below("loss on the second copy of random tokens, nats", 0.3, measures.second_copy_loss(model, tokens)),
    ]
    parts: tuple[tuple[Part, Part], ...] = (
        ("train", "train"),
        ("heldout", "train"),
        ("train", "heldout"),
        ("heldout", "heldout"),
    )
    for frames, names in parts:
        prompts = name_recipient_prompts(2 * _PROMPTS, _SEED, frames=frames, names=names)
        for order, share in measures.recipient_accuracy(model, prompts).items():
            lines.append(above(f"recipient named, {frames} frames, {names} names, {order}", 0.95, share))
    return lines


def _stories(model: Any, tokenizer: Any, recipe: Recipe) -> list[Criterion]:
    spent, bound = measures.whole_story_nats(model, tokenizer, _HELDOUT_STORIES, 1)
    start = torch.tensor([[tokenizer.eos_token_id, *tokenizer(_OPENING, add_special_tokens=False)["input_ids"]]])
    torch.manual_seed(0)
    with torch.no_grad():
        text = model.generate(
            start,
            attention_mask=torch.ones_like(start),
            max_new_tokens=100,
            do_sample=True,
            pad_token_id=tokenizer.pad_token_id,
        )[0, 1:]
    return [
        reported("bound on the generator's entropy, nats a token", f"{bound:.4f}"),
        below("excess of the loss of whole held-out stories over that bound, nats a token", 0.3, spent - bound),
        reported("sample", tokenizer.decode(text)),
    ]


def _masked(recipe: Recipe, network: Network, tokenizer: Any) -> list[Criterion]:
    lines = [
        reported(
            "loss on hidden words of held-out stories, nats a word",
            f"{heldout_masked_loss(network, tokenizer, recipe):.4f}",
        )
    ]
    for pair in NEGATION_PAIRS:
        for adjective, ratio in negation_ratios(network, tokenizer, pair).items():
            antonym = pair[1] if adjective == pair[0] else pair[0]
            lines.append(
                above(f"p({antonym} | not {adjective}) / p({antonym} | {adjective}), held-out names", 5, ratio)
            )
    share = agreement_accuracy(network, tokenizer, agreement_prompts(2 * _PROMPTS, _SEED))
    return [*lines, above("agreement across an attractor of the other number, unseen pairs", 0.9, share)]
