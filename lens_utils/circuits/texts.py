"""Texts to check circuits on: a corpus file, a shipped model's own held-out stories, or the named prompts."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompts import CONTRAST_PROMPTS, MOON_PROMPT, TextUnit, TokenizedText, read_texts, tokenize_corpus
from lens_utils.zoo.stories import stories


@dataclass(frozen=True)
class Texts:
    """Texts and, in words, where they come from."""

    texts: tuple[TokenizedText, ...]
    source: str


def is_shipped(model: HookedTransformer) -> bool:
    """Whether the model was trained on this repository's own stories."""
    return getattr(model.provenance, "source", None) == "shipped"


def circuit_texts(
    model: HookedTransformer, *, n: int, seed: int, corpus: str = "", unit: TextUnit = "paragraph"
) -> Texts:
    """The first n texts of the corpus file; without one, n held-out stories (shipped models) or the named prompts.

    Texts that exceed the context are cut into parts, of which at most n are kept. Raises `ValueError` for n < 1 and a
    corpus that cannot be read.
    """
    found, source = circuit_text_stream(model, n=n, seed=seed, corpus=corpus, unit=unit)
    texts = tuple(found)
    return Texts(texts, f"{len(texts)} texts ({source})")


def circuit_text_stream(
    model: HookedTransformer, *, n: int, seed: int, corpus: str = "", unit: TextUnit = "paragraph"
) -> tuple[Iterator[TokenizedText], str]:
    """The same texts one at a time, tokenised as they are read, and where they come from; bad input raises at once."""
    if n < 1:
        raise ValueError(f"n={n!r}: ask for at least 1 text")
    if corpus:
        found, source = read_texts(Path(corpus), unit=unit), f"the first texts of {Path(corpus).name}"
    elif is_shipped(model):
        found, source = stories(n, seed, split="heldout"), "held-out stories of the model's own generator"
    else:
        found, source = iter((MOON_PROMPT, *CONTRAST_PROMPTS)), "the named prompts; a corpus gives more"
    return islice(tokenize_corpus(model, found), n), source
