"""Texts for planted heads: every clause draws its words from a group of its own, so that token classes carry structure.

A clause is `[conjunction] [adverb] subject verb determiner noun [adverb] pivot`; four groups of words come in turn, and
now and then somebody speaks, two clauses of two more groups. Names, pronouns and nouns come again when a group does.
"""

import random
from dataclasses import dataclass, field

import torch

from lens_utils.prompts import TokenizedText
from lens_utils.word_classes import word_classes

BOS = "<bos>"
TOLD, SPEECH = range(4), (4, 5)
"""Groups of words outside and inside speech."""
OPENING, CLOSING = "\u201c", "\u201d"


@dataclass(frozen=True)
class Group:
    """The words of one kind of clause."""

    subjects: tuple[str, ...]
    adverbs: tuple[str, ...]
    verbs: tuple[str, ...]
    determiner: str
    nouns: tuple[str, ...]
    pivot: str
    conjunction: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """All of them."""
        joins = (self.conjunction,) if self.conjunction else ()
        return (*self.subjects, *self.adverbs, *self.verbs, self.determiner, *self.nouns, self.pivot, *joins)


GROUPS = (
    Group(("Tom", "he"), ("soon", "often"), ("ran", "sat"), "the", ("dog", "ball"), ",", "but"),
    Group(("Lucy", "she"), ("now", "here"), ("ate", "sang"), "a", ("cake", "tree"), ".", "and"),
    Group(("Ben", "they"), ("once", "never"), ("saw", "found"), "my", ("cat", "box"), "!", "so"),
    Group(("Mia", "we"), ("today", "always"), ("took", "made"), "our", ("book", "car"), "?", "because"),
    Group(("you", "it"), ("maybe", "almost"), ("look", "come"), "your", ("bird", "fish"), "..."),
    Group(("I", "them"), ("then", "still"), ("want", "know"), "its", ("hat", "boat"), "!!"),
)
"""The groups of words."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of planted texts; 0 begins a text."""

    tokens: tuple[str, ...] = field(
        default=(BOS, *(word for group in GROUPS for word in group.words), OPENING, CLOSING)
    )

    def __len__(self) -> int:
        return len(self.tokens)

    def ids(self, *words: str) -> list[int]:
        """The numbers of words."""
        return [self.tokens.index(word) for word in words]

    def group(self, index: int) -> list[int]:
        """The tokens of a group's clauses; the mark that opens or closes speech is one of them."""
        marks = {SPEECH[0]: (OPENING,), SPEECH[1]: (CLOSING,)}
        return self.ids(*GROUPS[index].words, *marks.get(index, ()))


def planted_texts(n: int, n_ctx: int, *, seed: int) -> tuple[TokenizedText, ...]:
    """n texts of at most `n_ctx` tokens that begin with BOS; no clause is longer than 11 tokens."""
    rng, vocabulary = random.Random(f"planted:{seed}"), Vocabulary()
    texts = []
    for index in range(n):
        words = _words(rng, n_ctx)
        classes = word_classes(words, {BOS})
        texts.append(TokenizedText(index, " ".join(words), torch.tensor(vocabulary.ids(*words)), tuple(words), classes))
    return tuple(texts)


def _words(rng: random.Random, n_ctx: int) -> list[str]:
    words, group, spoke = [BOS], rng.choice(TOLD), False
    room = n_ctx - rng.randrange(n_ctx // 4)
    while True:
        part = _clause(rng, group, joins=len(words) > 1 and not spoke)
        spoke = rng.random() < 0.35
        if spoke:
            part.append(OPENING)
            for each in SPEECH:
                part += _clause(rng, each, joins=False)
            part.append(CLOSING)
        if len(words) + len(part) > room:
            return words
        words += part
        group = (group + 1) % len(TOLD)


def _clause(rng: random.Random, index: int, *, joins: bool) -> list[str]:
    group = GROUPS[index]
    clause = [group.conjunction] if joins and rng.random() < 0.5 else []
    if rng.random() < 0.6:
        clause.append(rng.choice(group.adverbs))
    clause += [rng.choice(group.subjects), rng.choice(group.verbs), group.determiner, rng.choice(group.nouns)]
    if rng.random() < 0.3:
        clause.append(rng.choice(group.adverbs))
    return [*clause, group.pivot]
