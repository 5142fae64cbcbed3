"""Does a skip-trigram `A ... B -> C` hold on text? The source is replaced by another token, and C's logit compared.

In texts that hold B, one earlier token is A: where the text has one before B it is that one, elsewhere one earlier
token (drawn at random) is made A. Effect = logit of C at B with A there, minus the same with a random token there, both
above the mean logit. The effect is the whole model's; run again without the head, it says how much of it is the head's.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_utils import hook_names
from lens_utils.circuits.skip_trigrams import SkipTrigram
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.progress import track
from lens_utils.prompts import TokenizedText
from lens_utils.statistics import Interval, bootstrap_interval

LONGEST = 48
"""Tokens of a context at most; B is its last."""
_ROWS = 128


@dataclass(frozen=True)
class TrigramEffect:
    """What one skip-trigram does on text."""

    trigram: SkipTrigram
    contexts: int
    natural: int
    """Contexts in which A stood before B already."""
    effect: Interval
    """Mean change of C's logit in nats over contexts when A is there; nan without contexts."""
    without_head: float
    """The same with the head's output set to zero."""


@dataclass(frozen=True)
class _Context:
    """A text up to B, and where A goes."""

    tokens: Int[Tensor, " pos"]
    place: int
    natural: bool


def check_trigrams(
    model: HookedTransformer,
    trigrams: Sequence[SkipTrigram],
    texts: Sequence[TokenizedText],
    others: Int[Tensor, " token"],
    *,
    seed: int,
    n_contexts: int = 16,
) -> tuple[TrigramEffect, ...]:
    """The effect of every trigram, on up to `n_contexts` contexts each; `others` are the tokens put in A's place."""
    rng = random.Random(seed)
    places = _places(texts)
    found = []
    for trigram in track(trigrams, "skip-trigrams on text"):
        contexts = _contexts(trigram, texts, places.get(trigram.current, []), n_contexts, rng)
        if not contexts:
            nothing = Interval(torch.nan, torch.nan, torch.nan)
            found.append(TrigramEffect(trigram, 0, 0, nothing, torch.nan))
            continue
        pairs = _pairs(contexts, trigram.source, others, rng)
        effects = _differences(model, pairs, trigram.predicted)
        with model.hooks(fwd_hooks=[(hook_names.z(trigram.layer), _without(trigram.head))]):
            rest = _differences(model, pairs, trigram.predicted)
        interval = bootstrap_interval(effects, seed=seed)
        natural = sum(context.natural for context in contexts)
        found.append(TrigramEffect(trigram, len(contexts), natural, interval, float(rest.mean())))
    return tuple(found)


def _places(texts: Sequence[TokenizedText]) -> dict[int, list[tuple[int, int]]]:
    """(text, position) of every token that has at least two before it and is not too deep in its text."""
    places: dict[int, list[tuple[int, int]]] = {}
    for index, text in enumerate(texts):
        for pos, token in enumerate(text.tokens[:LONGEST].tolist()):
            if pos >= 2:
                places.setdefault(token, []).append((index, pos))
    return places


def _contexts(
    trigram: SkipTrigram,
    texts: Sequence[TokenizedText],
    places: list[tuple[int, int]],
    n: int,
    rng: random.Random,
) -> list[_Context]:
    """Contexts where A stands already first, then others, each kind in random order."""
    natural, made = [], []
    for index, pos in rng.sample(places, len(places)):
        tokens, classes = texts[index].tokens[: pos + 1], texts[index].classes
        earlier = (tokens[:-1] == trigram.source).nonzero().squeeze(1).tolist()
        free = [place for place in range(pos) if classes[place] != "special"]
        if earlier:
            natural.append(_Context(tokens, rng.choice(earlier), True))
        elif free and len(made) < n:
            made.append(_Context(tokens, rng.choice(free), False))
        if len(natural) == n:
            break
    return (natural + made)[:n]


def _pairs(
    contexts: Sequence[_Context], source: int, others: Tensor, rng: random.Random
) -> list[tuple[Int[Tensor, " pos"], Int[Tensor, " pos"]]]:
    """Each context with A in its place, and with a random other token there."""
    pool = [token for token in others.tolist() if token != source]
    pairs = []
    for context in contexts:
        variants = []
        for token in (source, rng.choice(pool)):
            tokens = context.tokens.clone()
            tokens[context.place] = token
            variants.append(tokens)
        pairs.append((variants[0], variants[1]))
    return pairs


def _differences(
    model: HookedTransformer, pairs: Sequence[tuple[Tensor, Tensor]], token: int
) -> Float[Tensor, " pair"]:
    rows = [variant for pair in pairs for variant in pair]
    logits = torch.cat([_last_logits(model, rows[i : i + _ROWS], token) for i in range(0, len(rows), _ROWS)])
    with_source, without = logits.view(-1, 2).T
    return with_source - without


def _last_logits(model: HookedTransformer, rows: Sequence[Tensor], token: int) -> Float[Tensor, " row"]:
    """Logit of a token above the mean logit at the end of each row; rows of any length."""
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    mask = torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)
    with torch.inference_mode():
        logits = model(
            tokens.to(model.device),
            attention_mask=mask.to(model.device),
            logit_positions=(lengths - 1).unsqueeze(1).to(model.device),
        )[:, 0]
    return (logits[:, token] - logits.mean(-1)).double().cpu()


def _without(head: int) -> Callable[[Tensor, object], Tensor]:
    """Hook that sets one head's z to zero."""

    def put(z: Tensor, hook: object) -> Tensor:
        z = z.clone()
        z[:, :, head] = 0
        return z

    return put
