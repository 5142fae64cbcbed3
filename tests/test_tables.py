"""Tables keep every digit and every token in CSV, and stay readable in Markdown whatever a token holds."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lens_utils.identities import Identity
from lens_utils.tables import Column, Table, display_cells, read_csv, round_for_people, to_csv, to_markdown

HOSTILE = ["NA", "null", "nan", " the", "", "a|b", "x\ny", '"', "`", "<b>", "[red]", "1", "true", "\u200b", "a,b", "\r"]


def make_table(frame: pd.DataFrame, **columns: Column) -> Table:
    described = {name: columns.get(name, Column(f"what {name} is")) for name in frame.columns}
    return Table(frame, described, "A caption.")


def test_hostile_tokens_and_missing_numbers_come_back_as_they_were() -> None:
    frame = pd.DataFrame({"token": HOSTILE, "value": [math.nan, math.inf, -math.inf, *[0.1] * (len(HOSTILE) - 3)]})
    table = make_table(frame)
    back = read_csv(to_csv(table), kinds=table.kinds)
    assert list(back["token"]) == HOSTILE
    np.testing.assert_array_equal(back["value"].to_numpy(), frame["value"].to_numpy())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8")),
            st.floats(allow_nan=False),
            st.integers(-(2**60), 2**60),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_csv_round_trip_is_exact(rows: list[tuple[str, float, int, bool]]) -> None:
    frame = pd.DataFrame(rows, columns=["t", "x", "n", "b"])
    frame = frame.astype({"t": "str", "x": "float64", "n": "int64", "b": "bool"})
    table = make_table(frame)
    back = read_csv(to_csv(table), kinds=table.kinds)
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert to_csv(make_table(back)) == to_csv(table)


def test_single_column_with_empty_text_keeps_its_rows() -> None:
    table = make_table(pd.DataFrame({"t": ["", "a", ""]}))
    assert list(read_csv(to_csv(table), kinds=table.kinds)["t"]) == ["", "a", ""]


def test_float32_is_written_with_its_own_shortest_digits_and_no_minus_zero() -> None:
    table = make_table(pd.DataFrame({"x": np.array([0.1, -0.0, 1e-7], dtype=np.float32)}))
    assert to_csv(table) == "x\n0.1\n0.0\n1e-07\n"


def test_types_are_guessed_without_kinds_and_tokens_stay_text() -> None:
    frame = read_csv("t,n,x,b,m\nNA,1,0.5,true,\nnull,2,inf,false,3.5\n")
    assert [str(dtype) for dtype in frame.dtypes] == ["str", "int64", "float64", "bool", "float64"]
    assert list(frame["t"]) == ["NA", "null"]


@pytest.mark.parametrize(
    ("text", "kinds", "message"),
    [
        ("a,b\n1\n", None, "row 0 has 1 cells"),
        ("a\nx\n", {"a": "integer"}, "column 'a'"),
        ("a\nmaybe\n", {"a": "boolean"}, "column 'a'"),
        ("a\nx\n", {"b": "text"}, "kinds"),
        ("a\nx\n", {"a": "date"}, "choose one of text, integer, number, boolean"),
    ],
)
def test_a_bad_csv_is_named(text: str, kinds: dict[str, str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_csv(text, kinds=kinds)


@pytest.mark.parametrize(
    ("frame", "columns", "message"),
    [
        (pd.DataFrame({"a": [1], "b": [2]}), ["a"], "the frame has"),
        (pd.DataFrame({"a": [1], "b": [2]}), ["b", "a"], "in that order"),
        (pd.DataFrame({"a": [1]}, index=["r"]), ["a"], "reset_index"),
        (pd.DataFrame({"a": ["x", None]}), ["a"], "use text throughout"),
        (pd.DataFrame({"a": [[1], [2]]}), ["a"], "use text throughout"),
        (pd.DataFrame(), [], "at least one column"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ["a"], "describe each once"),
    ],
)
def test_a_table_that_does_not_match_its_description_is_refused(
    frame: pd.DataFrame, columns: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Table(frame, {name: Column("described") for name in columns}, "caption")


def test_markdown_escapes_marks_and_quotes_tokens() -> None:
    frame = pd.DataFrame(
        {"token": [" the", "a|b`c"], "hook": ["hook_mlp_out", "_x|<b>[red]"], "v": [0.123456, 12345.6]}
    )
    text = to_markdown(make_table(frame, token=Column("the token", "token"), v=Column("size", "nats", digits=3)))
    lines = text.splitlines()
    assert lines[0] == "A caption."
    assert lines[2] == "| token | hook | v (nats) |"
    assert lines[3] == "| --- | --- | ---: |"
    assert lines[4] == '| `" the"` | hook_mlp_out | 0.123 |'
    assert lines[5] == r'| ``"a\|b`c"`` | \_x\|\<b\>\[red\] | 12346 |'
    assert lines[-1] == "- `v`: size"


def test_a_line_break_never_breaks_a_markdown_row() -> None:
    text = to_markdown(make_table(pd.DataFrame({"t": HOSTILE, "u": HOSTILE}), t=Column("a token", "token")))
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert len(rows) == 2 + len(HOSTILE)
    assert "\r" not in text
    assert "\u200b" not in text


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0.0, "0"), (-0.0, "0"), (123456.7, "123457"), (1.23456e-9, "1.235e-09"), (2.5e12, "2.5e+12"), (math.nan, "")],
)
def test_rounding_for_people(number: float, shown: str) -> None:
    assert round_for_people(number, 4) == shown


def test_booleans_and_integers_are_shown_whole() -> None:
    table = make_table(pd.DataFrame({"b": [True, False], "n": [1234567, -1]}))
    assert display_cells(table, "b") == ["yes", "no"]
    assert display_cells(table, "n") == ["1234567", "-1"]


def test_an_identity_that_is_not_a_number_fails() -> None:
    assert Identity("sum", "a = b", 1e-6, 1e-6).holds
    assert not Identity("sum", "a = b", 1.1e-6, 1e-6).holds
    assert not Identity("sum", "a = b", math.nan, 1e-6).holds


@pytest.mark.parametrize(("error", "tolerance"), [(-1.0, 1.0), (0.0, -1.0), (0.0, math.nan)])
def test_an_impossible_identity_is_refused(error: float, tolerance: float) -> None:
    with pytest.raises(ValueError, match="sum"):
        Identity("sum", "a = b", error, tolerance)
