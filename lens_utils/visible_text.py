"""Tokens made visible: control, zero-width and direction-changing characters are written out, the rest stays."""

import unicodedata
from collections.abc import Iterable

_NAMED = {"\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d"}
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINER = "\u200d"


def visible(text: str) -> str:
    """`text` with each character that a browser hides or acts upon replaced by a printable one.

    Line feed, tab and carriage return become arrows; other control characters their Unicode pictures;
    zero-width, direction-changing and unpaired surrogate characters their code points, as `<U+200B>`.
    The zero-width joiner between two emoji stays, as it is part of the picture.
    """
    return "".join(_show(text, index) for index in range(len(text)))


def label(text: str, *, length: int = 32) -> str:
    """`visible(text)` on one line for an axis or a button: outer spaces as dots, cut to `length` characters."""
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    dotted = "\u00b7" * before + inner + "\u00b7" * (len(text) - before - len(inner)) if inner else "\u00b7" * len(text)
    shown = visible(dotted)
    return shown if len(shown) <= length else shown[: length - 1] + "\u2026"


def _show(text: str, index: int) -> str:
    character = text[index]
    if character in _NAMED:
        return _NAMED[character]
    if unicodedata.category(character) not in _HIDDEN or _joins_emoji(text, index):
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"


def _joins_emoji(text: str, index: int) -> bool:
    if text[index] != _JOINER or not 0 < index < len(text) - 1:
        return False
    before = unicodedata.category(text[index - 1])
    return before in {"So", "Sk", "Mn"} and unicodedata.category(text[index + 1]) == "So"


def running(tokens: Iterable[str]) -> list[str]:
    """Tokens to be read as running text: words of a tokenizer that keeps no spaces get one in front."""
    listed = list(tokens)
    if any(token[:1].isspace() or token[:1] in ("\u0120", "\u2581") for token in listed):
        return listed
    return [f" {token}" if token[:1].isalnum() else token for token in listed]
