"""Texts for the experiments: named prompts, checked tokenisation, batching by length, text files read lazily."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.word_classes import word_classes
from lens_utils.zoo.repeats import twice

MOON_PROMPT = (
    "Jack and Lily liked to watch the moon at night. They noticed that the moon changed its shape every night. "
    "Sometimes the moon was big and round, and sometimes it was"
)
"""The opening for which activation statistics of TinyStories-1L-21M are published."""

LUCY_PROMPT = 'One day, Lucy asks Tom: "I am looking for a banana but I can\'t find it". Tom says: "Don\'t'
"""The opening for which a head table of TinyStories-1L-21M is published: dialogue, names, nested clauses."""

CONTRAST_PROMPTS = (
    LUCY_PROMPT,
    "Tom was not happy. He was sad because he lost his ball.",
    "apple banana milk bread apple banana milk bread apple banana milk bread",
)
"""Dialogue, negation and a bare repeated list: three kinds of text to set beside a story."""

TextUnit = Literal["paragraph", "line"]
_LONGEST_PARAGRAPH = 1_000_000
"""Characters; beyond this a file has surely no blank lines, and reading on would not be bounded."""


@dataclass(frozen=True)
class TokenizedText:
    """One text as the model reads it."""

    index: int
    """Which text of the run it is, from 0."""
    text: str
    tokens: Int[Tensor, " pos"]
    strings: tuple[str, ...]
    """Each token as text."""
    classes: tuple[str, ...]
    """Each token's word class."""

    def __len__(self) -> int:
        return len(self.strings)

    def context(self, pos: int, *, before: int = 6, after: int = 2) -> str:
        """The tokens around position `pos`, itself between guillemets."""
        start = max(0, pos - before)
        here = f"«{self.strings[pos].strip()}»"
        left, right = self.strings[start:pos], self.strings[pos + 1 : pos + 1 + after]
        return " ".join([*(token.strip() for token in left), here, *(token.strip() for token in right)])


def tokenize_prompt(
    model: HookedTransformer, text: str, *, index: int = 0, prepend_bos: bool | None = None
) -> TokenizedText:
    """Tokens, token strings and word classes of one prompt.

    Raises `ValueError` naming the prompt when it is empty or longer than the model's context.
    """
    if not text.strip():
        raise ValueError(f"prompt {index} is empty ({text!r}): give some text")
    tokens = model.to_tokens(text, prepend_bos=prepend_bos)[0].cpu()
    limit = model.cfg.n_ctx
    if len(tokens) > limit:
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        raise ValueError(
            f"prompt {index} ({shown!r}) has {len(tokens)} tokens, and the context of {model.cfg.model_name!r} "
            f"holds {limit}: shorten it by {len(tokens) - limit} tokens"
        )
    strings = tuple(model.to_str_tokens(tokens))
    special = set(getattr(model.tokenizer, "all_special_tokens", ()))
    return TokenizedText(index, text, tokens, strings, word_classes(strings, special))


def tokenize_prompts(
    model: HookedTransformer, texts: Sequence[str], *, prepend_bos: bool | None = None
) -> tuple[TokenizedText, ...]:
    """Every prompt, all checked before anything is computed; `ValueError` when there is none."""
    if not texts:
        raise ValueError("prompts=(): give at least one prompt")
    return tuple(tokenize_prompt(model, text, index=i, prepend_bos=prepend_bos) for i, text in enumerate(texts))


def repeated_texts(model: HookedTransformer, n: int, *, longest: int, seed: int) -> tuple[TokenizedText, ...]:
    """n texts of random tokens said twice, behind the token that begins a text if the model has one.

    One copy has between half of `longest` and `longest` tokens, so that no fixed distance leads from the second copy
    to the first. Raises `ValueError` when two copies do not fit the context.
    """
    room = (model.cfg.n_ctx - 1) // 2
    if not 2 <= longest <= room:
        raise ValueError(f"longest={longest!r}: choose from 2 to {room}, so that two copies fit the context")
    tokenizer, generator = model.tokenizer, torch.Generator().manual_seed(seed)
    special = set(getattr(tokenizer, "all_special_ids", ()))
    words = torch.tensor([token for token in range(model.cfg.d_vocab) if token not in special])
    begin = next((t for t in (tokenizer.bos_token_id, tokenizer.cls_token_id) if t is not None), None)
    marks, texts = set(getattr(tokenizer, "all_special_tokens", ())), []
    for index in range(n):
        length = int(torch.randint(longest // 2, longest + 1, (), generator=generator))
        tokens = twice(words, 1, length, begin or 0, generator)[0, begin is None :]
        strings = tuple(model.to_str_tokens(tokens))
        texts.append(TokenizedText(index, "".join(strings), tokens, strings, word_classes(strings, marks)))
    return tuple(texts)


def length_batches(
    texts: Iterable[TokenizedText], *, max_tokens: int, window: int = 64
) -> Iterator[tuple[TokenizedText, ...]]:
    """Batches of texts of similar length, at most `max_tokens` positions each with padding (one long text may exceed).

    Reads `window` texts ahead and sorts only those, so that a stream of any length needs bounded memory.
    """
    if max_tokens < 1 or window < 1:
        raise ValueError(f"max_tokens={max_tokens!r}, window={window!r}: both must be at least 1")
    ahead: list[TokenizedText] = []
    for text in texts:
        ahead.append(text)
        if len(ahead) == window:
            yield from _split(ahead, max_tokens)
            ahead = []
    yield from _split(ahead, max_tokens)


def _split(texts: list[TokenizedText], max_tokens: int) -> Iterator[tuple[TokenizedText, ...]]:
    batch: list[TokenizedText] = []
    for text in sorted(texts, key=len):
        if batch and (len(batch) + 1) * len(text) > max_tokens:
            yield tuple(batch)
            batch = []
        batch.append(text)
    if batch:
        yield tuple(batch)


def read_texts(path: Path, *, unit: TextUnit = "paragraph") -> Iterator[str]:
    """The texts of a UTF-8 file, one at a time: paragraphs (separated by blank lines), or single non-empty lines.

    Raises `ValueError` at once when the path is no file or holds no text; later, when bytes are not UTF-8 or a
    paragraph does not end (a file with one text a line needs `unit="line"`).
    """
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "not found"
        raise ValueError(f"corpus {str(path)!r}: {what}; give a UTF-8 text file")
    texts = _paragraphs(path) if unit == "paragraph" else (line for line in _lines(path) if line)
    first = next(texts, None)
    if first is None:
        raise ValueError(f"corpus {str(path)!r}: the file holds no text")
    return chain([first], texts)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield line.strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"corpus {str(path)!r}: not UTF-8 text ({error})") from error


def _paragraphs(path: Path) -> Iterator[str]:
    lines: list[str] = []
    size = 0
    for line in chain(_lines(path), [""]):
        if line:
            lines.append(line)
            size += len(line) + 1
            if size > _LONGEST_PARAGRAPH:
                raise ValueError(
                    f"corpus {str(path)!r}: a paragraph exceeds {_LONGEST_PARAGRAPH} characters; "
                    "if the file holds one text a line, read it by lines"
                )
        elif lines:
            yield " ".join(lines)
            lines, size = [], 0


def tokenize_corpus(
    model: HookedTransformer, texts: Iterable[str], *, prepend_bos: bool | None = None
) -> Iterator[TokenizedText]:
    """The texts of a stream; one that exceeds the context is cut, between words, into as many parts as needed.

    The parts count as texts of their own, each with the special tokens a text gets.
    """
    index = 0
    for text in texts:
        for part in _fitting(model, text, prepend_bos):
            yield tokenize_prompt(model, part, index=index, prepend_bos=prepend_bos)
            index += 1


def _fitting(model: HookedTransformer, text: str, prepend_bos: bool | None) -> Iterator[str]:
    words = text.split()
    if len(words) < 2 or model.to_tokens(text, prepend_bos=prepend_bos).shape[1] <= model.cfg.n_ctx:
        yield text
        return
    middle = len(words) // 2
    for half in (words[:middle], words[middle:]):
        yield from _fitting(model, " ".join(half), prepend_bos)
