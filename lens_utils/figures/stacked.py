"""Curves in panels above each other on one x axis, for quantities of different units that move together."""

from collections.abc import Mapping, Sequence

from plotly.subplots import make_subplots

from lens_utils.figures import parts, theme
from lens_utils.figures.parts import Figure, Vector


def stacked_lines(
    panels: Sequence[tuple[str, Mapping[str, tuple[Vector, Vector]]]],
    *,
    title: str,
    caption: str,
    x_title: str,
    x_labels: Sequence[str] | None = None,
) -> Figure:
    """Panels (name of the y axis, curves {name: (x, y)}) from top to bottom; with `x_labels`, x counts them from 0."""
    if not panels:
        raise ValueError("panels=[]: give at least one (name, curves)")
    grid = make_subplots(len(panels), 1, shared_xaxes=True, vertical_spacing=0.06)
    grid.update_layout(parts.figure(title, {}, height=120 + 210 * len(panels)).layout)
    colours, number = theme.COLOURS["light"], 0
    for row, (label, curves) in enumerate(panels, start=1):
        for name, (x, y) in curves.items():
            across, up = parts.array(x), parts.array(y)
            parts.check_length(f"y of {name!r}", up, len(across))
            line = {"width": 2, "color": colours[number % len(colours)]}
            grid.add_scatter(x=across, y=up, name=parts.text(name), mode="lines+markers", line=line, row=row, col=1)
            number += 1
        grid.update_yaxes(title={"text": parts.text(label)}, row=row, col=1)
    grid.update_xaxes(title={"text": parts.text(x_title)}, row=len(panels), col=1)
    if x_labels is not None:
        grid.update_xaxes(**parts.ticks(x_labels), row=len(panels), col=1)
    return Figure(grid, caption)
