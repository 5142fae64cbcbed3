"""Heatmaps as SVG: every cell where it belongs in the colour it has, labels as text, only what is a heatmap."""

import itertools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from site_example import HOSTILE

from lens_utils import figures
from lens_utils.figures import heatmap_svg, theme

TEXT = {"title": "A title & <more>", "caption": "What is seen."}
SVG = "{http://www.w3.org/2000/svg}"


def parsed(figure: figures.Figure) -> ET.Element:
    text = heatmap_svg(figure)
    assert text is not None
    return ET.fromstring(text)


def cells_of(panel: ET.Element, shape: tuple[int, int]) -> np.ndarray:
    """The colour of each cell, read back from the paths; '' where nothing is drawn."""
    found = np.full(shape, "", dtype=object)
    for path in panel.iter(f"{SVG}path"):
        drawn = path.attrib["d"]
        runs = re.findall(r"M(\d+) (\d+)h(\d+)", drawn)
        assert "".join(f"M{x} {y}h{width}" for x, y, width in runs) == drawn
        for x, y, width in runs:
            assert (found[int(y), int(x) : int(x) + int(width)] == "").all(), "no cell is drawn twice"
            found[int(y), int(x) : int(x) + int(width)] = path.attrib["stroke"]
    return found


def brightness(colour: str) -> int:
    return sum(int(colour[index : index + 2], 16) for index in (1, 3, 5))


def panels(root: ET.Element) -> list[ET.Element]:
    return root.findall(f"{SVG}g")


def test_every_cell_has_its_colour():
    values = np.random.default_rng(0).random((5, 7))
    values[1, 2] = values[4, 6] = np.nan
    root = parsed(figures.heatmap(values, x_labels=list("abcdefg"), y_labels=list("hijkl"), **TEXT))
    (panel,) = panels(root)
    found = cells_of(panel, values.shape)
    assert ((found == "") == np.isnan(values)).all(), "what is missing is left blank"
    stops = theme.scale("sequential", "light")
    assert found.flat[np.nanargmin(values)].lower() == stops[0][1].lower()
    assert found.flat[np.nanargmax(values)].lower() == stops[-1][1].lower()
    order = np.argsort(values[~np.isnan(values)])
    shades = [brightness(colour) for colour in found[~np.isnan(values)][order]]
    assert all(one >= other for one, other in itertools.pairwise(shades)), "more is darker"


def test_panels_lie_in_their_grid():
    given = [(f"head {index}", np.full((2, 3), float(index))) for index in range(5)]
    root = parsed(figures.small_heatmaps(given, columns=2, **TEXT))
    places = [
        [float(number) for number in re.findall(r"translate\((\S+) (\S+)\)", panel.attrib["transform"])[0]]
        for panel in panels(root)
    ]
    assert len({x for x, _ in places}) == 2
    assert [y for _, y in places] == sorted(y for _, y in places)
    assert len({y for _, y in places}) == 3
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert [f"head {index}" in words for index in range(5)] == [True] * 5


def test_scales_of_their_own_have_bars_of_their_own():
    given = [("a", np.eye(2)), ("b", 10 * np.eye(2))]
    root = parsed(figures.small_heatmaps(given, scales=["raw", "weighted"], **TEXT))
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert {"raw", "weighted", "1", "10"} <= set(words)
    assert len(list(root.iter(f"{SVG}linearGradient"))) == 2


@pytest.mark.parametrize("token", HOSTILE)
def test_labels_are_text(token: str):
    root = parsed(figures.heatmap(np.eye(1), x_labels=[token], y_labels=[token], title=token, caption=token))
    allowed = {"svg", "title", "desc", "rect", "g", "path", "text", "defs", "linearGradient", "stop"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= allowed
    assert not [name for element in root.iter() for name in element.attrib if name.lower().startswith("on")]
    words = "".join(text.text or "" for text in root.iter(f"{SVG}text"))
    assert any(letter in words for letter in token.strip()[:6] + "<")
    assert "\u2060" not in words


def test_long_axes_keep_labels_at_their_cells():
    names = [str(index) for index in range(200)]
    root = parsed(figures.heatmap(np.zeros((200, 1)), x_labels=["x"], y_labels=names, **TEXT))
    (panel,) = panels(root)
    top = float(re.findall(r"translate\(\S+ (\S+)\)", panel.attrib["transform"])[0])
    scale = float(re.findall(r"scale\(\S+ (\S+)\)", panel.attrib["transform"])[0])
    labels = {text.text: float(text.attrib["y"]) for text in root.iter(f"{SVG}text") if text.text in names[1:]}
    assert len(labels) > 50
    for name, y in labels.items():
        assert abs(y - 4 - (top + (int(name) + 0.5) * scale)) < 0.5, name


def test_only_heatmaps_have_one():
    assert heatmap_svg(figures.bars({"a": 1.0}, **TEXT)) is None
    assert heatmap_svg(figures.histogram({"a": ([1], [0, 1])}, **TEXT)) is None


def test_same_figure_same_bytes():
    made = figures.heatmap(np.eye(3), x_labels=list("abc"), y_labels=list("abc"), **TEXT)
    assert heatmap_svg(made) == heatmap_svg(made)
