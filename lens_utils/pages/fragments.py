"""What a page is made of: headings, text, tables, figures, CircuitsVis components, grids of heads, and choices."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lens_utils.figures import Figure
from lens_utils.pages.encode import plain
from lens_utils.tables import Table
from lens_utils.visible_text import visible

COMPONENTS = (
    "AttentionHeads",
    "AttentionPattern",
    "AttentionPatterns",
    "ColoredTokens",
    "ColoredTokensMulti",
    "TextNeuronActivations",
    "TokenLogProbs",
    "TopkSamples",
    "TopkTokens",
)


@dataclass(frozen=True)
class Heading:
    """A heading inside a page."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; shown as it stands, line breaks kept."""

    text: str


@dataclass(frozen=True)
class Component:
    """A CircuitsVis component with its JSON-ready props; make it with `circuitsvis`."""

    name: str
    props: Mapping[str, Any] = field(repr=False)
    caption: str = ""


@dataclass(frozen=True)
class AttentionGrid:
    """Thumbnails of many heads, of which CircuitsVis draws the chosen one; make it with `attention_grid`."""

    props: Mapping[str, Any] = field(repr=False)
    caption: str = ""


@dataclass(frozen=True)
class Choice:
    """Sets of fragments of which the reader sees one at a time, the first to begin with: the figures of many heads."""

    label: str
    """What is chosen, as `Head`."""
    options: Mapping[str, tuple["Fragment", ...]] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError(f"options={dict(self.options)!r}: a choice needs at least one")


Fragment = Heading | Text | Component | AttentionGrid | Figure | Table | Choice


@dataclass(frozen=True)
class Page:
    """A page of its own beside a result: fragments from top to bottom, and one sentence on what they show."""

    fragments: tuple[Fragment, ...]
    caption: str


def circuitsvis(name: str, props: Mapping[str, Any], caption: str = "") -> Component:
    """CircuitsVis' component `name` (its JavaScript name, as `ColoredTokens`) with `props` (`maskUpperTri`, ...).

    Tensors and arrays are rounded, props that are None left to the component's default.
    Raises `ValueError` for a name that CircuitsVis does not have.
    """
    if name not in COMPONENTS:
        raise ValueError(f"name={name!r}: choose one of {', '.join(COMPONENTS)}")
    return Component(name, plain({key: value for key, value in props.items() if value is not None}), caption)


def attention_grid(
    patterns: Float[Tensor, "head query key"],
    *,
    tokens: Sequence[str],
    names: Sequence[str],
    caption: str,
    groups: Sequence[str] = (),
    causal: bool = True,
    signed: bool = False,
) -> AttentionGrid:
    """A thumbnail for each head; the chosen head drawn by CircuitsVis, and as text whose tokens answer to the pointer.

    Each weight is sent as one byte, in 255 steps up to its head's largest (`signed`: 127 on either side of 0), so that
    144 heads of 64 tokens stay under 1 MB. `groups` (a name a head, as `Layer 0`) puts a heading above the heads that
    follow each other under one name; `causal=False` (masked models) shows the upper triangle too.
    Raises `ValueError` when tokens, names or groups do not fit, for missing values, for negative ones unless `signed`.
    """
    weights = patterns.detach().cpu().double().numpy()
    heads, queries, keys = weights.shape
    sizes = [("tokens", tokens, keys), ("tokens", tokens, queries), ("names", names, heads)]
    for label, given, size in [*sizes, *([("groups", groups, heads)] if groups else [])]:
        if len(given) != size:
            raise ValueError(f"{label} has {len(given)} entries: patterns of shape {weights.shape} need {size}")
    if not (np.isfinite(weights).all() and (signed or (weights >= 0).all())):
        raise ValueError("patterns: holds negative (signed=False), infinite or missing values")
    zero, steps = (127, 127) if signed else (0, 255)
    largest = np.abs(weights).max(axis=(1, 2), initial=0.0)
    unit = np.where(largest > 0, largest, 1.0)[:, None, None]
    cells = (zero + np.rint(weights / unit * steps)).astype(np.uint8)
    props = {
        "tokens": [visible(token) for token in tokens],
        "names": [visible(name) for name in names],
        "groups": [visible(name) for name in groups],
        "largest": plain(largest.tolist()),
        "cells": base64.b64encode(cells.tobytes()).decode(),
        "zero": zero,
        "steps": steps,
        "causal": causal,
    }
    return AttentionGrid(props, caption)
