"""Figures of attention heads: small scatter plots on common axes, and a graph of heads joined by weighted edges."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lens_utils.figures import parts, theme
from lens_utils.figures.parts import Figure, Number, Vector

_KINDS = ("solid", "dash", "dot")


@dataclass(frozen=True)
class Edge:
    """A line from node `start` to node `end` (indices), drawn wider for a larger weight."""

    start: int
    end: int
    kind: str
    weight: float
    label: str
    """What pointing at it says."""


def small_scatters(
    panels: Sequence[tuple[str, Vector, Vector]],
    *,
    title: str,
    caption: str,
    x_title: str,
    y_title: str,
    columns: int = 4,
) -> Figure:
    """A grid of (name, x, y) panels, all on the same axes symmetric around 0, so that they can be compared."""
    if not panels:
        raise ValueError("panels=[]: give at least one (name, x, y)")
    columns = max(1, min(columns, len(panels)))
    rows = math.ceil(len(panels) / columns)
    names = [parts.text(name) for name, _, _ in panels]
    grid = make_subplots(rows, columns, subplot_titles=names, vertical_spacing=0.25 / rows**1.2)
    arrays = [(parts.array(x), parts.array(y)) for _, x, y in panels]
    together = np.concatenate([each for pair in arrays for each in pair])
    reach = 1.08 * (float(np.abs(together[np.isfinite(together)]).max(initial=0.0)) or 1.0)
    hover = f"{parts.text(x_title)} %{{x:.4g}}<br>{parts.text(y_title)} %{{y:.4g}}<extra></extra>"
    for index, (x, y) in enumerate(arrays):
        marker = {"size": 4, "opacity": 0.7, "color": theme.COLOURS["light"][0]}
        dots = go.Scatter(x=x, y=y, mode="markers", marker=marker, hovertemplate=hover, showlegend=False)
        grid.add_trace(dots, row=index // columns + 1, col=index % columns + 1)
    grid.update_layout(parts.figure(title, {}, height=60 + 190 * rows).layout)
    grid.update_layout(margin={"t": 36, "b": 8, "l": 16})
    shared = {"range": [-reach, reach], "showticklabels": False, "ticks": "", "zeroline": True, "nticks": 5}
    grid.update_xaxes(**shared)
    grid.update_yaxes(**shared)
    return Figure(grid, caption)


def graph(
    nodes: Sequence[tuple[str, Number, Number]],
    edges: Sequence[Edge],
    *,
    title: str,
    caption: str,
    y_labels: Sequence[str],
) -> Figure:
    """Nodes (name, x, y), y counting `y_labels` from the bottom, and the edges between them, coloured by kind.

    A name may have several lines.
    """
    figure = parts.figure(title, {}, height=parts.clamp(170 + 130 * len(y_labels), 300, 1000))
    _draw_edges(figure, nodes, edges)
    names, across, up = (list(each) for each in zip(*nodes, strict=True))
    many = len(nodes) > 40
    figure.add_scatter(
        x=across,
        y=up,
        mode="markers" if many else "markers+text",
        text=["<br>".join(map(parts.text, name.split("\n"))) for name in names],
        textposition=["bottom center" if y == min(up) else "top center" for y in up],
        marker={"size": 9 if many else 13, "color": theme.COLOURS["light"][7]},
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )
    reach = [min(across) - 0.6, max(across) + 0.6]
    figure.update_xaxes(showgrid=False, zeroline=False, showticklabels=False, ticks="", range=reach)
    height = [-0.4, len(y_labels) - 0.6]
    figure.update_yaxes(**parts.ticks(list(y_labels)), showgrid=False, zeroline=False, range=height)
    figure.update_layout(hovermode="closest")
    return Figure(figure, caption)


def _draw_edges(figure: go.Figure, nodes: Sequence[tuple[str, Number, Number]], edges: Sequence[Edge]) -> None:
    top = max((edge.weight for edge in edges), default=1.0) or 1.0
    kinds = list(dict.fromkeys(edge.kind for edge in edges))
    shown: set[str] = set()
    for edge in sorted(edges, key=lambda edge: (kinds.index(edge.kind), edge.weight)):
        number = kinds.index(edge.kind)
        x, y = zip(*(nodes[index][1:] for index in (edge.start, edge.end)), strict=True)
        # Kinds bend to different sides, so that two between the same nodes stay apart
        middle = (sum(x) / 2 + 0.18 * (number - (len(kinds) - 1) / 2), sum(y) / 2)
        figure.add_scatter(
            x=[x[0], middle[0], x[1]],
            y=[y[0], middle[1], y[1]],
            mode="lines",
            name=parts.text(edge.kind),
            legendgroup=edge.kind,
            showlegend=len(kinds) > 1 and edge.kind not in shown,
            line={
                "width": 0.8 + 5 * edge.weight / top,
                "color": theme.COLOURS["light"][number % len(theme.COLOURS["light"])],
                "dash": _KINDS[number % len(_KINDS)],
                "shape": "spline",
            },
            opacity=0.35 + 0.6 * edge.weight / top,
            text=[parts.text(edge.label)] * 3,
            hovertemplate="%{text}<extra></extra>",
        )
        shown.add(edge.kind)
