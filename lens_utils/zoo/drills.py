"""Single sentences with the telling word hidden: the adjective after a negation, the verb after an attractor.

A masked model hides one word in five at random, so these words are asked for too rarely to be learned in few steps.
"""

import random
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lens_utils.zoo import scenes_people, scenes_things, words
from lens_utils.zoo.corpus import token_lists
from lens_utils.zoo.masked import MaskedBatch
from lens_utils.zoo.world import Grammar, Person, World

WIDTH = 24
"""Tokens of a window."""


@dataclass(frozen=True)
class Drills:
    """Windows [CLS] sentence [SEP], padded, and the position of the word that is hidden."""

    tokens: Int[Tensor, "drill pos"]
    position: Int[Tensor, "drill"]


def drills(tokenizer: PreTrainedTokenizerFast, n: int, seed: int) -> Drills:
    """n windows, about two thirds of negation and the others of agreement, with the corpus' own sentences and names."""
    rng, grammar = random.Random(f"drills:{seed}"), Grammar()
    adjectives = {word for pair in words.PERSON_ANTONYMS + words.THING_ANTONYMS for word in pair}
    verbs = {verb for pair in words.AGREEMENT_VERBS for verb in pair}
    sentences, keys = [], []
    for _ in range(n):
        scene, key = rng.choice(
            ((scenes_people.opposites, adjectives), (scenes_people.opposites, adjectives), (scenes_things.agree, verbs))
        )
        sentences.append(" ".join(scene(_world(rng, grammar))))
        keys.append({int(each) for each in tokenizer.convert_tokens_to_ids(sorted(key))})  # pyright: ignore
    rows, position = [], []
    for tokens, key in zip(token_lists(tokenizer, sentences), keys, strict=True):
        places = [index + 1 for index, token in enumerate(tokens) if token in key]
        if len(tokens) <= WIDTH - 2 and places:
            row = [tokenizer.cls_token_id, *tokens, tokenizer.sep_token_id]
            rows.append(row + [tokenizer.pad_token_id] * (WIDTH - len(row)))
            position.append(rng.choice(places))
    return Drills(torch.tensor(rows), torch.tensor(position))


def drill_batch(
    data: Drills, tokenizer: PreTrainedTokenizerFast, batch_tokens: int, generator: torch.Generator
) -> MaskedBatch:
    """Random drills, each with its word replaced by [MASK]."""
    chosen = torch.randint(0, len(data.tokens), (batch_tokens // WIDTH,), generator=generator)
    tokens = data.tokens[chosen]
    hidden = torch.arange(WIDTH) == data.position[chosen][:, None]
    shown = torch.where(hidden, tokenizer.mask_token_id, tokens)  # pyright: ignore
    return MaskedBatch(shown, tokens.ne(tokenizer.pad_token_id).long(), hidden, tokens[hidden])  # pyright: ignore


def _world(rng: random.Random, grammar: Grammar) -> World:
    people = [Person(name, name in words.BOY_NAMES) for name in rng.sample(words.BOY_NAMES + words.GIRL_NAMES, 2)]
    return World(rng, people, rng.choice(words.PLACES), grammar)
