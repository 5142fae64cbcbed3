"""Figures: numbers kept, labels kept apart and shown as text, bad input refused."""

import numpy as np
import pytest
import torch

from lens_utils import figures
from lens_utils.figures import theme
from lens_utils.visible_text import label, visible

TEXT = {"title": "A title", "caption": "What is seen."}


def trace(figure: figures.Figure, index: int = 0):
    return figure.figure.data[index]


def test_heatmap_keeps_values_and_missing_ones():
    values = torch.tensor([[0.5, float("nan")], [-2.0, 1.0]])
    made = figures.heatmap(values, x_labels=["a", "b"], y_labels=["c", "d"], **TEXT)
    np.testing.assert_array_equal(trace(made).z, values.numpy())
    assert made.figure.layout.yaxis.autorange == "reversed", "rows go from top to bottom"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_heatmap_takes_every_dtype(dtype: torch.dtype):
    made = figures.heatmap(torch.ones(1, 2, dtype=dtype), x_labels=["a", "a"], y_labels=["b"], **TEXT)
    np.testing.assert_array_equal(trace(made).z, [[1.0, 1.0]])


def test_heatmap_does_not_change_or_follow_the_input():
    values = np.zeros((1, 2))
    made = figures.heatmap(values, x_labels=["a", "b"], y_labels=["c"], **TEXT)
    values[0, 0] = 5
    assert trace(made).z[0, 0] in (0.0, 5.0)
    needs_gradient = torch.ones(1, 2, requires_grad=True)
    figures.heatmap(needs_gradient, x_labels=["a", "b"], y_labels=["c"], **TEXT)
    assert needs_gradient.requires_grad


def test_repeated_tokens_stay_apart():
    made = figures.heatmap(np.eye(3), x_labels=["the", "cat", "the"], y_labels=["a", "a", "a"], **TEXT)
    assert list(made.figure.layout.xaxis.tickvals) == [0, 1, 2]
    assert list(made.figure.layout.xaxis.ticktext) == ["the", "cat", "the"]
    assert trace(made).x is None, "columns are placed by position, not by a name that may repeat"
    bars = figures.bars([("the", 1.0), ("the", 2.0)], **TEXT)
    assert list(trace(bars).x) == [0, 1]


def test_diverging_is_centred_at_zero_and_sequential_is_not():
    values = np.array([[-1.0, 4.0]])
    centred = trace(figures.heatmap(values, x_labels=["a", "b"], y_labels=["c"], diverging=True, **TEXT))
    plain = trace(figures.heatmap(values, x_labels=["a", "b"], y_labels=["c"], **TEXT))
    assert (centred.zmin, centred.zmid, centred.zmax) == (-4.0, 0.0, 4.0)
    assert (plain.zmin, plain.zmid, plain.zmax) == (-1.0, None, 4.0)


@pytest.mark.parametrize("values", [np.zeros((1, 2)), np.full((1, 2), np.nan)])
@pytest.mark.parametrize("diverging", [True, False])
def test_flat_and_empty_heatmaps_have_finite_bounds(values: np.ndarray, diverging: bool):
    made = trace(figures.heatmap(values, x_labels=["a", "b"], y_labels=["c"], diverging=diverging, **TEXT))
    assert np.isfinite([made.zmin, made.zmax]).all()


@pytest.mark.parametrize("hostile", ["<b>bold</b>", "<a href='x'>", "a & b", "&lt;"])
def test_labels_are_shown_as_text(hostile: str):
    """Plotly reads tags and entities: each must arrive escaped, wherever it is put."""
    drawn = [
        figures.heatmap(np.eye(1), x_labels=[hostile], y_labels=[hostile], title=hostile, caption="c", x_title=hostile),
        figures.bars({hostile: 1.0}, **TEXT),
        figures.lines({hostile: ([0], [1])}, x_labels=[hostile], **TEXT),
        figures.scatter([0], [1], labels=[hostile], groups=[hostile], **TEXT),
        figures.box_from_quartiles({hostile: (0, 1, 2, 3, 4)}, **TEXT),
        figures.histogram({hostile: ([1], [0, 1])}, **TEXT),
        figures.small_heatmaps([(hostile, np.eye(2))], **TEXT),
    ]
    # Our own hover templates hold these on purpose.
    own = ("<br>", "<b>%{z:.4g}</b>", "<extra>", "</extra>")
    for made in drawn:
        for text in strings(made.figure.to_dict()):
            for piece in own:
                text = text.replace(piece, "")
            assert "<" not in text, text
            if hostile.startswith("&"):
                assert "&lt;" not in text.replace("&amp;lt;", ""), text


def test_labels_cannot_be_hover_templates():
    made = figures.histogram({"%{x}": ([1], [0, 1])}, x_title="%{x}", **TEXT)
    heat = figures.heatmap(np.eye(1), x_labels=["a"], y_labels=["b"], x_title="%{z}", y_title="%{z}", **TEXT)
    assert trace(made).hovertemplate == "from %{x:.4g}: %{y:,}<extra>%\u2060{x}</extra>"
    assert trace(heat).hovertemplate.count("%{z") == 1, "only our own"


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for key, item in value.items() if key not in ("template", "bdata") for text in strings(item)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def test_title_is_given_back_as_plain_text():
    made = figures.bars({"a": 1.0}, title="p < 0.05 & <b>", caption="c")
    assert made.title == "p < 0.05 & <b>"


def test_long_axes_are_thinned_evenly():
    made = figures.heatmap(np.zeros((1, 1000)), x_labels=[str(n) for n in range(1000)], y_labels=["a"], **TEXT)
    shown = list(made.figure.layout.xaxis.tickvals)
    assert 40 <= len(shown) <= 80
    assert len(set(np.diff(shown))) == 1
    assert [str(value) for value in shown] == list(made.figure.layout.xaxis.ticktext)


def test_small_heatmaps_share_one_scale():
    made = figures.small_heatmaps([("a", np.eye(2)), ("b", 3 * np.eye(2)), ("c", -np.eye(2))], **TEXT)
    assert {(panel.zmin, panel.zmax) for panel in made.figure.data} == {(-1.0, 3.0)}
    assert sum(panel.showscale is not False for panel in made.figure.data) == 1
    assert [note.text for note in made.figure.layout.annotations] == ["a", "b", "c"]


def test_small_heatmaps_with_scales_of_their_own():
    panels = [(name, factor * np.eye(2)) for name, factor in (("a", 1), ("b", 10), ("c", 2), ("d", 20))]
    made = figures.small_heatmaps(panels, scales=["raw", "weighted"] * 2, columns=2, **TEXT).figure
    assert [trace.zmax for trace in made.data] == [2, 20, 2, 20]
    assert [trace.showscale for trace in made.data] == [True, True, False, False]
    assert [trace.colorbar.title.text for trace in made.data[:2]] == ["raw", "weighted"]
    assert [(trace.xaxis, trace.yaxis) for trace in made.data] == [("x", "y"), ("x2", "y"), ("x", "y2"), ("x2", "y2")]
    assert made.layout.xaxis2.domain[0] > made.layout.xaxis.domain[1]
    assert made.layout.yaxis2.domain[1] < made.layout.yaxis.domain[0], "rows go down"


def test_small_heatmaps_name_rows_and_columns_on_hover():
    words = ["the", "<b>", "the"]
    made = figures.small_heatmaps([("a", np.zeros((3, 2)))], x_labels=words[:2], y_labels=words, **TEXT).figure
    assert list(made.layout.yaxis.ticktext) == ["the", "&lt;b&gt;", "the"]
    assert list(made.layout.xaxis.tickvals) == [0, 1]
    assert made.layout.xaxis.showticklabels is False


def test_histogram_draws_each_count_over_its_own_bin():
    made = trace(figures.histogram({"a": ([3, 5], [0.0, 1.0, 2.0])}, **TEXT))
    assert list(made.x) == [0.0, 1.0, 2.0]
    assert list(made.y) == [3.0, 5.0, 5.0], "a step from each edge, the last held to the end"
    assert made.line.shape == "hv"


def test_error_bars_from_half_widths_and_pairs():
    one = trace(figures.bars({"a": 1.0}, errors=[0.5], **TEXT)).error_y
    other = trace(figures.bars({"a": 1.0}, errors=[(0.1, 0.2)], **TEXT)).error_y
    assert (one.arrayminus[0], one.array[0]) == (0.5, 0.5)
    assert (other.arrayminus[0], other.array[0]) == (0.1, 0.2)


def test_scatter_groups_keep_their_points_and_labels():
    made = figures.scatter([0, 1, 2], [3, 4, 5], labels=["a", "b", "a"], groups=["x", "y", "x"], **TEXT)
    assert [(list(part.x), list(part.y), list(part.customdata)) for part in made.figure.data] == [
        ([0, 2], [3, 5], ["a", "a"]),
        ([1], [4], ["b"]),
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: figures.heatmap(np.eye(2), x_labels=["a"], y_labels=["b", "c"], **TEXT), "x_labels has 1 entries"),
        (lambda: figures.heatmap(np.eye(2), x_labels=["a", "b"], y_labels=["c"], **TEXT), "y_labels has 1 entries"),
        (lambda: figures.histogram({"a": ([1, 2], [0, 1])}, **TEXT), "edges of 'a' has 2 entries"),
        (lambda: figures.bars({"a": 1.0}, errors=[1.0, 2.0], **TEXT), "errors has 2 entries"),
        (lambda: figures.lines({"a": ([1, 2], [1])}, **TEXT), "y of 'a' has 1 entries"),
        (lambda: figures.scatter([1], [1, 2], labels=["a"], **TEXT), "y has 2 entries"),
        (lambda: figures.box_from_quartiles({"a": (1, 2, 3)}, **TEXT), r"boxes\['a'\] has 3 entries"),
        (lambda: figures.box_from_quartiles({}, **TEXT), "boxes"),
        (lambda: figures.small_heatmaps([], **TEXT), "panels"),
        (lambda: figures.small_heatmaps([("a", np.eye(2)), ("b", np.eye(3))], **TEXT), "one grid needs one shape"),
        (lambda: figures.small_heatmaps([("a", np.eye(2))], scales=["x", "y"], **TEXT), "scales has 2 entries"),
        (lambda: figures.small_heatmaps([("a", np.eye(2))], x_labels=["x"], **TEXT), "x_labels has 1 entries"),
        (lambda: figures.bars({"a": 1.0}, colour="red", **TEXT), r"\['colour'\]: choose from x_title, y_title"),
    ],
)
def test_bad_input_is_refused_by_name(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_both_schemes_define_the_same_things():
    light, dark = theme.template("light"), theme.template("dark")
    assert light.keys() == dark.keys()
    assert light["layout"].keys() == dark["layout"].keys()
    assert light["layout"]["font"]["color"] != dark["layout"]["font"]["color"]
    assert len(set(theme.COLOURS["light"])) == len(theme.COLOURS["light"]) == len(theme.COLOURS["dark"])
    with pytest.raises(ValueError, match="kind='rainbow'"):
        theme.scale("rainbow", "light")


@pytest.mark.parametrize("scheme", theme.SCHEMES)
def test_diverging_scale_is_palest_or_darkest_in_the_middle(scheme: theme.Scheme):
    light = [sum(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for _, colour in theme.scale("diverging", scheme)]
    middle = len(light) // 2
    assert light[middle] == (max(light) if scheme == "light" else min(light))
    assert theme.scale("diverging", scheme)[middle][0] == 0.5


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\tc", "a\u21b5b\u21e5c"),
        ("\x00\x1b\x7f", "\u2400\u241b\u2421"),
        ("a\u200bb", "a<U+200B>b"),
        ("\u202eabc", "<U+202E>abc"),
        ("\ufeff", "<U+FEFF>"),
        ("\ud800", "<U+D800>"),
        ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05dc\u05d5\u05dd"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("a\u200db", "a<U+200D>b"),
        ("<b>&", "<b>&"),
    ],
)
def test_visible(token: str, shown: str):
    assert visible(token) == shown
    assert visible(shown) == shown


def test_label_marks_outer_spaces_and_cuts():
    assert label("  a b ") == "\u00b7\u00b7a b\u00b7"
    assert label("   ") == "\u00b7\u00b7\u00b7"
    assert label("") == ""
    assert label("x" * 50, length=10) == "x" * 9 + "\u2026"
