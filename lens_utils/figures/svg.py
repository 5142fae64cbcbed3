"""Heatmap figures as SVG text: every cell exact, drawn as vectors, without a browser or a further library.

The cells of one colour are one path of strokes as high as a cell, so that a grid of thousands stays small. Colours have
256 steps, as on a screen.
"""

import html
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from jaxtyping import Float, Int

from lens_utils.figures import theme
from lens_utils.figures.parts import Figure, Number, array

WIDTH, BAR = 960, 96
"""Width of the picture and, at its right, of the room for colour bars; pixels."""
_STEPS = 255
_INK, _SOFT = "#20262c", "#5b6670"
_LETTER = 6.2
"""Width of a letter of 11 pixels, roughly."""


class _Box(NamedTuple):
    """Where the panels are drawn, in pixels."""

    x: float
    y: float
    width: float
    height: float


def heatmap_svg(figure: Figure) -> str | None:
    """The figure as an SVG document; None for one that is not all heatmaps."""
    drawing: Any = figure.figure
    if not drawing.data or any(trace.type != "heatmap" for trace in drawing.data):
        return None
    layout, labels = drawing.layout, _labels(drawing.layout)
    left = 16 + _LETTER * max((len(each) for each in labels["y"]), default=0)
    below = 16 + 0.75 * _LETTER * max((len(each) for each in labels["x"]), default=0)
    box = _Box(left, 64.0, WIDTH - left - BAR, float(layout.height or 400))
    parts = [_words(figure.title, 16, 26, size=16, weight=600)]
    for trace in drawing.data:
        parts.append(_panel(trace, layout, box))
    for note in layout.annotations:
        x, y = box.x + note.x * box.width, box.y + (1 - note.y) * box.height - 5
        parts.append(_words(html.unescape(note.text), x, y, anchor="middle"))
    parts += [*_axis_labels(labels, layout, box, array(drawing.data[0].z).shape), *_bars(drawing.data, box)]
    total = box.y + box.height + below
    ends = f'viewBox="0 0 {WIDTH} {_short(total)}" width="{WIDTH}" height="{_short(total)}"'
    style = 'font-family="system-ui, Segoe UI, Roboto, Liberation Sans, sans-serif"'
    title, caption = _clean(figure.title), _clean(figure.caption)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {ends} role="img" aria-label={quoteattr(title)} {style}>'
    about = f"<title>{escape(title)}</title><desc>{escape(caption)}</desc>"
    return "\n".join([head, about, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>", ""])


def _panel(trace: Any, layout: Any, box: _Box) -> str:
    """One heatmap: a ground for what is blank, and a path for each colour, in units of cells."""
    cells = array(trace.z)
    across, down = (layout[f"{letter}axis{(getattr(trace, letter + 'axis') or letter)[1:]}"].domain for letter in "xy")
    (x0, x1), (y0, y1) = across or (0, 1), down or (0, 1)
    x, y, width, height = box
    rows, columns = cells.shape
    scale = f"scale({_short((x1 - x0) * width / columns)} {_short((y1 - y0) * height / rows)})"
    # Half a cell down, since a stroke lies on both sides of its line
    place = f"translate({_short(x + x0 * width)} {_short(y + (1 - y1) * height)}) {scale} translate(0 0.5)"
    ground = f'<rect y="-0.5" width="{columns}" height="{rows}" fill="#f2f4f5"/>'
    steps = _step(cells, trace.zmin, trace.zmax)
    palette = _palette(trace.meta)
    paths = [f'<path stroke="{palette[step]}" d="{_runs(steps == step)}"/>' for step in np.unique(steps[steps >= 0])]
    return f'<g transform="{place}" shape-rendering="crispEdges">{ground}{"".join(paths)}</g>'


def _step(cells: Float[np.ndarray, "row column"], low: Number, high: Number) -> Int[np.ndarray, "row column"]:
    """Each cell's colour from 0 to 255; -1 for a blank one."""
    share = (cells - low) / ((high - low) or 1.0)
    return np.where(np.isfinite(share), np.rint(np.clip(np.nan_to_num(share), 0, 1) * _STEPS), -1).astype(int)


def _runs(chosen: Any) -> str:
    """Path data along the chosen cells, neighbours in a row as one stroke."""
    edges = np.diff(np.pad(chosen.astype(int), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return "".join(f"M{start} {row}h{end - start}" for (row, start), (_, end) in zip(starts, ends, strict=True))


def _palette(kind: str) -> list[str]:
    stops = theme.scale(kind, "light")
    at = np.linspace(0, 1, _STEPS + 1)
    shares = [share for share, _ in stops]
    channels = [[int(colour[i : i + 2], 16) for _, colour in stops] for i in (1, 3, 5)]
    mixed = np.stack([np.interp(at, shares, channel) for channel in channels], axis=1).round().astype(int)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in mixed.tolist()]


def _labels(layout: Any) -> dict[str, list[str]]:
    """The tick labels that are written, of a figure with one panel."""
    axes = {"x": layout.xaxis, "y": layout.yaxis}
    return {
        letter: [html.unescape(each) for each in axis.ticktext or ()] if axis.showticklabels is not False else []
        for letter, axis in axes.items()
    }


def _axis_labels(labels: dict[str, list[str]], layout: Any, box: _Box, shape: tuple[int, ...]) -> list[str]:
    x, y, width, height = box
    found = []
    for letter, axis, length, count in (("x", layout.xaxis, width, shape[1]), ("y", layout.yaxis, height, shape[0])):
        for place, words in zip(axis.tickvals or (), labels[letter], strict=False):
            at = (place + 0.5) / count * length
            if letter == "y":
                found.append(_words(words, x - 6, y + at + 4, anchor="end"))
            else:
                found.append(_words(words, x + at, y + height + 12, anchor="end", turn=-45))
    return found


def _bars(traces: Any, box: _Box) -> list[str]:
    """A colour bar for each scale: the colours from bottom to top, the ends' values beside them."""
    found: list[str] = []
    shown = [trace for trace in traces if trace.showscale is not False]
    for index, trace in enumerate(shown):
        x, y, height = WIDTH - BAR + 24, box.y + index * 150, 104
        stops = "".join(
            f'<stop offset="{_short(at)}" stop-color="{colour}"/>' for at, colour in theme.scale(trace.meta, "light")
        )
        gradient = f'<linearGradient id="bar{index}" x1="0" y1="1" x2="0" y2="0">{stops}</linearGradient>'
        found.append(
            f'<defs>{gradient}</defs><rect x="{x}" y="{y}" width="10" height="{height}" fill="url(#bar{index})"/>'
        )
        title = html.unescape((trace.colorbar.title.text if trace.colorbar.title else "") or "")
        found += [_words(title, x - 6, y - 8, colour=_SOFT)]
        found += [_words(f"{trace.zmax:.3g}", x + 16, y + 9), _words(f"{trace.zmin:.3g}", x + 16, y + height)]
    return found


def _words(
    text: str,
    x: Number,
    y: Number,
    *,
    size: int = 11,
    weight: int = 400,
    anchor: str = "start",
    turn: int = 0,
    colour: str = _INK,
) -> str:
    turned = f' transform="rotate({turn} {_short(x)} {_short(y)})"' if turn else ""
    style = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}" xml:space="preserve"'
    return f'<text x="{_short(x)}" y="{_short(y)}" {style}{turned}>{escape(_clean(text))}</text>'


def _clean(text: str) -> str:
    # What XML forbids even when escaped; labels have been made visible before, and need no joiner here
    text = text.replace("\u2060", "")
    return "".join(letter if letter >= " " and not "\ud800" <= letter <= "\udfff" else "\ufffd" for letter in text)


def _short(number: Number) -> str:
    return f"{number:.6g}"
