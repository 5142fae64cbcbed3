"""The results site: pages of figures, tables and CircuitsVis components that open from the file system, offline."""

from lens_utils.pages.fragments import (
    AttentionGrid,
    Choice,
    Component,
    Fragment,
    Heading,
    Page,
    Text,
    attention_grid,
    circuitsvis,
)
from lens_utils.pages.site import render_index, render_result, write_assets

__all__ = [
    "AttentionGrid",
    "Choice",
    "Component",
    "Fragment",
    "Heading",
    "Page",
    "Text",
    "attention_grid",
    "circuitsvis",
    "render_index",
    "render_result",
    "write_assets",
]
