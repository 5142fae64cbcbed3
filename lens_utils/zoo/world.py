"""The state a story keeps (who, where, mood, what each person holds) and the template language that reads it.

A template is plain text with `[this|that]` for a choice, `<toy>` for a random word of a list in
`words.CATEGORIES` (`<toys>` for its plural) and `{slot}` for something the story already knows.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lens_utils.zoo import words

T = TypeVar("T")

_TOKEN = re.compile(r"\[|\]|\||\{(\w+)\}|<(\w+)>|[^\[\]|{}<>]+")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou](?!ne\b|nic|se))")


@dataclass
class Person:
    """Somebody of the story: a name, a gender, opposites already settled, and what is held."""

    name: str
    male: bool
    traits: dict[str, str] = field(default_factory=dict)
    """Adjective by the first adjective of its pair."""
    holds: str | None = None

    @property
    def he(self) -> str:
        """The subject pronoun."""
        return "he" if self.male else "she"

    @property
    def him(self) -> str:
        """The object pronoun."""
        return "him" if self.male else "her"

    @property
    def his(self) -> str:
        """The possessive pronoun."""
        return "his" if self.male else "her"


@dataclass
class World:
    """What is true at this point of a story; scenes read and change it."""

    rng: random.Random
    people: list[Person]
    place: str
    grammar: "Grammar"
    evaluated: bool = True
    """Whether scenes that evaluation asks about may use these people's names."""
    nats: float = 0.0
    """Minus the log-probability of all choices made so far."""

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, evenly."""
        self.nats += math.log(len(options))
        return options[int(self.rng.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """True with a probability strictly between 0 and 1."""
        happens = self.rng.random() < probability
        self.nats -= math.log(probability if happens else 1 - probability)
        return happens

    def say(self, *templates: str, **slots: str) -> str:
        """The text of one of the templates, with the slots of this world and the given ones."""
        known = self.slots() | slots
        return self.grammar.text(self.pick(templates), self, known)

    def slots(self) -> dict[str, str]:
        """Slots every template may use: A and B with their pronouns, the place, what A holds."""
        first, second = self.people[0], self.people[1]
        return {
            "A": first.name,
            "he": first.he,
            "him": first.him,
            "his": first.his,
            "He": first.he.capitalize(),
            "His": first.his.capitalize(),
            "B": second.name,
            "he2": second.he,
            "him2": second.him,
            "his2": second.his,
            "He2": second.he.capitalize(),
            "His2": second.his.capitalize(),
            "place": self.place,
            "obj": first.holds or "ball",
            "obj2": second.holds or "book",
        }

    def trait(self, person: Person, pair: tuple[str, str]) -> str:
        """The adjective of the pair that holds for a person, settled at random the first time."""
        return person.traits.setdefault(pair[0], self.pick(pair))

    def swap(self) -> None:
        """Let the other person lead."""
        self.people[0], self.people[1] = self.people[1], self.people[0]

    def feel(self, person: Person, mood: str) -> None:
        """Set a person's mood, happy or sad."""
        person.traits["happy"] = mood


class Grammar:
    """Templates, parsed once each."""

    def __init__(self) -> None:
        self._parsed: dict[str, list] = {}

    def text(self, template: str, world: World, slots: dict[str, str]) -> str:
        """The template's text in this world, with 'a' made 'an' where needed and a capital in front."""
        parsed = self._parsed.get(template)
        if parsed is None:
            parsed = self._parsed[template] = _parse(template)
        out = _ARTICLE.sub(r"\1n ", _render(parsed, world, slots))
        return out[:1].upper() + out[1:]


def _parse(template: str) -> list:
    """A template as a list of strings, ('slot', name), ('word', list, plural) and ('either', options)."""
    stack: list[list[list]] = [[[]]]
    end = 0
    for match in _TOKEN.finditer(template):
        if match.start() != end:
            raise ValueError(f"template {template!r}: cannot read it at character {end}")
        end, token = match.end(), match.group(0)
        if token == "[":
            stack.append([[]])
        elif token == "|":
            stack[-1].append([])
        elif token == "]":
            options = stack.pop()
            stack[-1][-1].append(("either", options))
        elif match.group(1):
            stack[-1][-1].append(("slot", match.group(1)))
        elif match.group(2):
            stack[-1][-1].append(_word_part(match.group(2)))
        else:
            stack[-1][-1].append(token)
    if len(stack) != 1 or len(stack[0]) != 1 or end != len(template):
        raise ValueError(f"template {template!r}: brackets do not match, or a bar stands outside them")
    return stack[0][0]


def _word_part(name: str) -> tuple[str, tuple[str, ...], bool]:
    if name in words.CATEGORIES:
        return "word", words.CATEGORIES[name], False
    if name.endswith("s") and name[:-1] in words.CATEGORIES:
        return "word", tuple(words.plural(word) for word in words.CATEGORIES[name[:-1]]), True
    raise ValueError(f"unknown word list <{name}>; known: {', '.join(sorted(words.CATEGORIES))}")


def _render(parts: list, world: World, slots: dict[str, str]) -> str:
    out = []
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        elif part[0] == "slot":
            out.append(slots[part[1]])
        else:
            chosen = world.pick(part[1])
            out.append(chosen if part[0] == "word" else _render(chosen, world, slots))
    return "".join(out)
