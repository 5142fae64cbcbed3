"""The structure of one text that target rules share: clauses, speech, repeated tokens.

Structure comes from marks and closed lists, no parser: a *pivot* ends a clause (comma, full stop, `!`, `?`), and the
mark that closes speech belongs to the clause it closes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

from lens_utils.word_classes import bare_word

PIVOTS = frozenset(",.!?")
SPEECH_MARKS = frozenset('"\u201c\u201d')
CONJUNCTIONS = frozenset(("but", "and", "so", "because"))

Mask = Bool[np.ndarray, "query key"]


@dataclass(frozen=True)
class Text:
    """The tokens of one text with their word classes, and the structure that rules share, each read once."""

    strings: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.strings)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Tokens in lower case, without space marks."""
        bare = {token: bare_word(token).lower() for token in set(self.strings)}
        return tuple(bare[token] for token in self.strings)

    @cached_property
    def pivots(self) -> tuple[bool, ...]:
        """Whether a token ends a clause; a mark of speech in the same token does not matter."""
        return tuple(
            bool(PIVOTS & set(word)) and not any(character.isalnum() for character in word) for word in self.words
        )

    @cached_property
    def marks(self) -> tuple[bool, ...]:
        """Whether a token holds a mark of speech."""
        return tuple(bool(SPEECH_MARKS & set(word)) for word in self.words)

    @cached_property
    def opened(self) -> tuple[int, ...]:
        """Where the speech opened that a position lies in or its mark closes; -1 elsewhere, and at opening marks."""
        opened, found = -1, []
        for position, is_mark in enumerate(self.marks):
            found.append(opened)
            if is_mark:
                opened = position if opened < 0 else -1
        return tuple(found)

    @cached_property
    def clauses(self) -> tuple[int, ...]:
        """Where the clause of each position starts; a pivot, and speech closed behind it, belong to what they end."""
        start = next((i for i, name in enumerate(self.classes) if name != "special"), 0)
        starts, ended = [], False
        for position, is_pivot in enumerate(self.pivots):
            closes = self.marks[position] and self.opened[position] >= 0
            if ended and not is_pivot and not closes:
                start, ended = position, False
            ended = ended or is_pivot
            starts.append(min(start, position))
        return tuple(starts)

    @cached_property
    def same_token(self) -> Mask:
        """Whether two positions hold the same token; special tokens equal nothing."""
        numbers: dict[str, int] = {}
        codes = np.array([numbers.setdefault(token, len(numbers)) for token in self.strings])
        real = np.array([name != "special" for name in self.classes])
        return (codes[:, None] == codes) & real[:, None] & real

    def nothing(self) -> Mask:
        """A mask without targets."""
        return np.zeros((len(self), len(self)), dtype=bool)

    def pointing(self, keys: Sequence[int]) -> Mask:
        """The mask with one key for each query; -1 for none."""
        targets, where = self.nothing(), np.array(keys)
        targets[np.flatnonzero(where >= 0), where[where >= 0]] = True
        return targets

    def between(self, first: Int[np.ndarray, " query"], last: Int[np.ndarray, " query"]) -> Mask:
        """The mask of keys from `first` up to, not including, `last`."""
        key = np.arange(len(self))
        return (key >= first[:, None]) & (key < last[:, None])
