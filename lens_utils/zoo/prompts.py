"""Generated prompts with a known answer: who receives, what follows a negation, which verb agrees."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lens_utils.zoo import frames as frame_lists
from lens_utils.zoo import words
from lens_utils.zoo.scenes_things import heldout_pair
from lens_utils.zoo.world import Grammar, Person, World

Part = Literal["train", "heldout"]

_DISGUISED = 1 / 3
"""Share of the words of a frame that are replaced where any are."""


@dataclass(frozen=True)
class NameRecipientPrompt:
    """A text that stops where the recipient's name comes next."""

    prompt: str
    io: str
    """The answer: who is named once (indirect object)."""
    subject: str
    """Who acts, and is named twice."""
    order: Literal["io first", "subject first"]
    """Which of the two is named first."""
    opening: str
    """The opening's template."""
    action: str
    """The action's template."""


@dataclass(frozen=True)
class NegationPrompt:
    """The same text affirmed and negated, each asking for the adjective that holds."""

    affirmed: str
    """Such as `Tom was happy. He was`."""
    negated: str
    """Such as `Tom was not happy. He was`."""
    adjective: str
    """What is affirmed or negated."""
    antonym: str
    """Its opposite."""
    name: str


@dataclass(frozen=True)
class AgreementPrompt:
    """A subject and an attractor of the other number, and the verb that must come next."""

    prompt: str
    right: str
    wrong: str
    plural: bool
    """Whether the subject is plural."""


def name_recipient_prompts(
    n: int, seed: int, *, frames: Part = "train", names: Part = "train"
) -> list[NameRecipientPrompt]:
    """n prompts with the two name orders in turn; held-out frames and names never occur in this task in the corpus."""
    openings = _part(frames, "frames", frame_lists.OPENINGS, frame_lists.HELDOUT_OPENINGS)
    actions = _part(frames, "frames", frame_lists.ACTIONS, frame_lists.HELDOUT_ACTIONS)
    rng, grammar = random.Random(f"recipient:{seed}"), Grammar()
    out = []
    for index in range(n):
        world = _two_people(rng, grammar, names)
        first, second = (person.name for person in world.people)
        io, subject = (first, second) if index % 2 == 0 else (second, first)
        opening, action = rng.choice(openings), rng.choice(actions)
        prompt = f"{world.say(opening)} {world.say(action, S=subject)}"
        out.append(
            NameRecipientPrompt(prompt, io, subject, "io first" if index % 2 == 0 else "subject first", opening, action)
        )
    return out


def negation_prompts(pair: tuple[str, str], *, names: Part = "heldout") -> list[NegationPrompt]:
    """One prompt for each name and each adjective of the pair."""
    boys, girls = _names(names)
    return [
        NegationPrompt(
            f"{name} was {adjective}. {he} was", f"{name} was not {adjective}. {he} was", adjective, antonym, name
        )
        for he, group in (("He", boys), ("She", girls))
        for name in group
        for adjective, antonym in (pair, pair[::-1])
    ]


def agreement_prompts(n: int, seed: int) -> list[AgreementPrompt]:
    """n prompts from pairs of subject and attractor that the corpus never shows; the two differ in number."""
    rng, spots = random.Random(f"agreement:{seed}"), words.SPOTS + words.AGREEMENT_NOUNS
    out = []
    while len(out) < n:
        first, second = rng.randrange(len(words.AGREEMENT_NOUNS)), rng.randrange(len(spots))
        noun, spot = words.AGREEMENT_NOUNS[first], spots[second]
        if not heldout_pair(first, second) or noun == spot:
            continue
        many = len(out) % 2 == 0
        subject, near = (words.plural(noun), spot) if many else (noun, words.plural(spot))
        singular, plural = rng.choice(words.AGREEMENT_VERBS)
        right, wrong = (plural, singular) if many else (singular, plural)
        out.append(AgreementPrompt(f"The {subject} {rng.choice(words.AGREEMENT_LINKS)} the {near}", right, wrong, many))
    return out


def _part(part: Part, argument: str, train: tuple[str, ...], heldout: tuple[str, ...]) -> tuple[str, ...]:
    if part not in ("train", "heldout"):
        raise ValueError(f"{argument} is {part!r}; choose 'train' or 'heldout'")
    return train if part == "train" else heldout


def _names(part: Part) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names for 'he' and for 'she'."""
    return (
        _part(part, "names", words.BOY_NAMES, words.HELDOUT_BOY_NAMES),
        _part(part, "names", words.GIRL_NAMES, words.HELDOUT_GIRL_NAMES),
    )


def _two_people(rng: random.Random, grammar: Grammar, names: Part) -> World:
    boys, girls = _names(names)
    first, second = rng.sample(boys + girls, 2)
    return World(rng, [Person(first, first in boys), Person(second, second in boys)], rng.choice(words.PLACES), grammar)


def recipient_pairs(seed: int, *, odd_words: Sequence[str] = (), disguised: bool = False) -> Iterator[tuple[str, str]]:
    """An endless run of texts and the recipient each asks for, in the frames that zoo-attn-2l trains on.

    Those are the corpus' frames and some more, with asides that move the names about; no held-out ones. In half of
    the texts two of `odd_words` stand for the people, so that the answer comes from the text and not from knowing
    the names; words that the frames themselves use are left out. If `disguised`, some of the frame's words give way
    to `odd_words` in half of the texts, so that the answer does not come from knowing the frame either.
    """
    heldout = {*words.HELDOUT_BOY_NAMES, *words.HELDOUT_GIRL_NAMES}
    openings = frame_lists.OPENINGS + frame_lists.EXTRA_OPENINGS
    actions = frame_lists.ACTIONS + frame_lists.EXTRA_ACTIONS
    used = set(re.findall(r"[A-Za-z]+", " ".join(openings + actions + frame_lists.ASIDES)))
    odd = [word for word in odd_words if word not in heldout | used]
    lower = [word for word in odd if word.islower()]
    rng, grammar = random.Random(f"course:{seed}"), Grammar()
    while True:
        world = _two_people(rng, grammar, "train")
        first, second = (person.name for person in world.people)
        io, subject = (first, second) if rng.random() < 0.5 else (second, first)
        parts = [world.say(rng.choice(openings)), world.say(rng.choice(actions), S=subject)]
        if rng.random() < 0.3:
            parts.insert(0, world.say(*frame_lists.ASIDES))
        if parts[-2].endswith(".") and rng.random() < 0.2:
            parts.insert(-1, world.say(*frame_lists.ASIDES))
        text = " ".join(parts)
        if odd and rng.random() < 0.5:
            renamed = dict(zip((first, second), rng.sample(odd, 2), strict=True))
            text, io = _rename(text, renamed), renamed[io]
            first, second = renamed.values()
        if disguised and rng.random() < 0.5:
            text = _disguise(text, {first, second}, lower, rng)
        yield text, io


def _rename(text: str, names: dict[str, str]) -> str:
    """The text with each name replaced by what stands for it."""
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[0]], text)


def _disguise(text: str, names: set[str], words: Sequence[str], rng: random.Random) -> str:
    """The text with a third of its words replaced, but for names, capitals and the last word."""
    *before, last = re.split(r"(\W+)", text)
    changed = [
        rng.choice(words) if part.islower() and part not in names and rng.random() < _DISGUISED else part
        for part in before
    ]
    return "".join([*changed, last])
