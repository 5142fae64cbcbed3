"""Pages as files: everything said is there, escaped, rounded, within its size; the browser's part is in browser/."""

import base64
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from site_example import HOSTILE, drawn, manifest, patterns, tables, write_site

from lens_utils import figures, pages
from lens_utils.pages.encode import json_for_page, packed_cells, plain, plain_figure
from lens_utils.pages.site import ASSET_NAMES
from lens_utils.tables import Column, Table


class Parsed(HTMLParser):
    """Start tags with attributes, visible text, and the JSON blocks of a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.blocks, self._json = "", [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._json = tag == "script" and ("type", "application/json") in attrs

    def handle_endtag(self, tag):
        self._json = False

    def handle_data(self, data):
        if self._json:
            self.blocks.append(json.loads(data))
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("results")
    write_site(root)
    return root


@pytest.fixture(scope="module")
def result(site: Path) -> Parsed:
    return Parsed((site / "site_example" / "zoo-stories-1l" / "index.html").read_text(encoding="utf-8"))


def every_page(site: Path) -> list[tuple[Path, Parsed]]:
    found = sorted(site.rglob("*.html"))
    assert len(found) == len(drawn()) + 2
    return [(path, Parsed(path.read_text(encoding="utf-8"))) for path in found]


def test_every_page_refers_only_to_files_that_exist(site: Path):
    for path, page in every_page(site):
        links = [attrs.get("href") or "" for attrs in page.all("link") + page.all("a")]
        links += [attrs["src"] or "" for attrs in page.all("script") if "src" in attrs]
        links += [attrs["data-src"] or "" for attrs in page.all("iframe")]
        for link in links:
            assert not re.match(r"[a-z]+:(?!,$)", link), f"{path.name}: {link} leaves the site"
            target = link.split("#")[0]
            if target and not link.startswith("data:") and not target.endswith((".csv", ".md")):
                assert (path.parent / target).is_file(), f"{path.name}: {link}"
            if link.startswith("#"):
                assert link[1:] in {attrs.get("id") for _, attrs in page.tags}, f"{path.name}: {link}"


def test_no_page_has_a_script_of_its_own(site: Path):
    for path, page in every_page(site):
        for attrs in page.all("script"):
            assert attrs.get("type") == "application/json" or attrs["src"].split("/")[-1] in ASSET_NAMES, path
        assert not page.all("img"), path
        assert not page.all("svg"), path
        assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")], path
        policy = [attrs for attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
        assert len(policy) == 1, path
        assert "default-src 'none'" in policy[0]["content"], path
        assert "unsafe-inline" not in policy[0]["content"].split("script-src")[1].split(";")[0], path


def test_ids_are_unique_on_every_page(site: Path):
    for path, page in every_page(site):
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids)), path


@pytest.mark.parametrize("token", HOSTILE[:4])
def test_hostile_tokens_are_text(result: Parsed, token: str):
    assert token in result.text


def test_hidden_characters_are_written_out(result: Parsed, site: Path):
    for shown in ("zero<U+200B>width<U+202E>turned", "bell\u2407 null\u2400 escape\u241b", "<U+D800>"):
        assert shown in result.text
    for path, _ in every_page(site):
        raw = path.read_text(encoding="utf-8")
        assert not re.search("[\x00-\x08\x0b-\x1f\u200b\u202a-\u202e]", raw), path


def test_the_result_page_tells_everything(result: Parsed):
    made = manifest()
    assert made["command"] in result.text
    assert made["summary"] in result.text
    for table in tables().values():
        assert table.caption in result.text
        for column in table.columns.values():
            assert column.description in result.text
    for name, item in drawn().items():
        assert item.caption in result.text, name
    for identity in made["identities"]:
        assert identity["statement"] in result.text
    assert "1 of 2 identities fail" in result.text
    assert "4f0c" * 16 in result.text, "the manifest is shown"


def test_numbers_are_rounded_for_people_and_sorted_exactly(result: Parsed):
    exact = [attrs["data-sort"] for attrs in result.all("td") if "data-sort" in attrs]
    assert len(exact) > 100, "the long table sorts by more digits than it shows"
    np.testing.assert_allclose([float(text) for text in exact[-2:]], tables()["neurons"].frame.iloc[199, 1:], rtol=1e-8)
    assert exact[0] not in result.text


def test_long_tables_are_cut_with_a_link_to_all_rows(result: Parsed):
    assert "The first 200 of 900 rows; all of them are in neurons.csv" in " ".join(result.text.split())


def test_figures_on_the_page_carry_their_data(result: Parsed):
    figure_blocks = [block for block in result.blocks if "data" in block]
    alone = [item for item in drawn().values() if isinstance(item, figures.Figure)]
    chosen = [inner for fragment in drawn()["chosen"].fragments for some in fragment.options.values() for inner in some]
    inside = [inner for inner in chosen if isinstance(inner, figures.Figure)]
    assert len(inside) == 5
    assert len(figure_blocks) == len(alone) + len(inside)
    assert all("template" not in block["layout"] for block in figure_blocks)
    histogram = figure_blocks[0]["data"][0]
    expected = drawn()["histograms"].figure.data[0]
    np.testing.assert_allclose(histogram["x"], expected.x, rtol=1e-4)
    np.testing.assert_array_equal(histogram["y"], expected.y)


def test_large_figures_are_linked_instead(tmp_path: Path):
    values = np.random.default_rng(0).normal(size=(600, 400))
    names = [str(index) for index in range(600)]
    large = figures.heatmap(values, x_labels=names[:400], y_labels=names, title="t", caption="c")
    pages.render_result(tmp_path, manifest=manifest(), tables=tables(), figures={"large": large}, summary="s")
    page = Parsed((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert not [block for block in page.blocks if "data" in block]
    assert [frame["data-src"] for frame in page.all("iframe")] == ["large.html#embedded"]
    assert all("src" not in frame for frame in page.all("iframe")), "nothing is loaded before it is opened"
    assert (tmp_path / "index.html").stat().st_size < 200_000 < (tmp_path / "large.html").stat().st_size < 1_000_000


def test_heatmaps_lie_beside_their_page_as_svg(site: Path):
    folder = site / "site_example" / "zoo-stories-1l"
    assert sorted(path.name for path in folder.glob("*.svg")) == ["grids.svg", "heatmap.svg"]
    page = Parsed((folder / "heatmap.html").read_text(encoding="utf-8"))
    assert "heatmap.svg" in [attrs.get("href") for attrs in page.all("a")]


def test_a_heatmap_behind_a_choice_has_its_svg_too(tmp_path: Path):
    options = {
        name: (figures.heatmap(factor * np.eye(2), x_labels="ab", y_labels="cd", title=name, caption="c"),)
        for name, factor in (("first", 1), ("second", 2))
    }
    given = {"chosen": pages.Page((pages.Heading("h"), pages.Choice("Head", options)), "c")}
    pages.render_result(tmp_path, manifest=manifest(), tables=tables(), figures=given, summary="s")
    links = [attrs.get("href") for attrs in Parsed((tmp_path / "chosen.html").read_text(encoding="utf-8")).all("a")]
    for name, file in (("first", "chosen-1-0-0.svg"), ("second", "chosen-1-1-0.svg")):
        assert file in links
        assert f"<title>{name}</title>" in (tmp_path / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("low", [0.0, -2.0])
def test_packed_cells_hold_every_value_to_a_step(low: float):
    values = np.random.default_rng(0).uniform(low, 2, size=(5, 7))
    values[0, 1:] = values[2, 3] = values[4] = np.nan
    values[1, 0] = 0.0
    sent = packed_cells(values, low, 2.0)
    assert sent["widths"] == [1, 7, 7, 7, 0]
    codes = np.frombuffer(base64.b64decode(sent["packed"]), dtype=np.uint8).astype(float)
    back = np.full((5, sent["columns"]), 255.0)
    back[np.arange(7) < np.array(sent["widths"])[:, None]] = codes
    assert ((back == 255) == np.isnan(values)).all()
    restored = np.where(back == 255, np.nan, low + back * sent["step"])
    np.testing.assert_allclose(restored, values, atol=(2 - low) / 508 + 1e-12)
    assert restored[1, 0] == 0, "nothing stays nothing"


def test_small_figures_keep_their_digits_and_large_ones_are_packed(tmp_path: Path):
    values = np.random.default_rng(0).normal(size=(200, 160))
    names = [str(index) for index in range(200)]
    for rows, packed in ((180, False), (200, True)):
        drawn = figures.heatmap(values[:rows], x_labels=names[:160], y_labels=names[:rows], title="t", caption="c")
        pages.render_result(tmp_path, manifest=manifest(), tables=tables(), figures={"x": drawn}, summary="s")
        (block,) = [block for block in Parsed((tmp_path / "x.html").read_text()).blocks if "data" in block]
        assert isinstance(block["data"][0]["z"], dict) == packed


@pytest.mark.parametrize(("heads", "size", "limit"), [(16, 128, 1_000_000), (144, 64, 4_000_000)])
def test_attention_pages_stay_small(tmp_path: Path, heads: int, size: int, limit: int):
    names = [f"L0H{head}" for head in range(heads)]
    words = [f" word{index}" for index in range(size)]
    grid = pages.attention_grid(patterns(heads, size), tokens=words, names=names, caption="c")
    page = {"attention": pages.Page((grid,), "c")}
    pages.render_result(tmp_path, manifest=manifest(), tables=tables(), figures=page, summary="s")
    assert (tmp_path / "attention.html").stat().st_size < limit


@pytest.mark.parametrize("signed", [False, True])
def test_attention_grid_sends_every_weight_to_one_byte(signed: bool):
    given = patterns(3, 7) * torch.tensor([1.0, 1e-4, 0])[:, None, None]
    given = given - 0.6 * given.flip(-1) if signed else given
    grid = pages.attention_grid(given, tokens=["a"] * 7, names=["x", "y", "z"], caption="c", signed=signed).props
    bytes_back = np.frombuffer(base64.b64decode(grid["cells"]), dtype=np.uint8).reshape(3, 7, 7).astype(int)
    largest = given.abs().amax((1, 2)).numpy()
    np.testing.assert_allclose(grid["largest"], largest, rtol=1e-4)
    restored = (bytes_back - grid["zero"]) / grid["steps"] * largest[:, None, None]
    np.testing.assert_array_less(np.abs(restored - given.numpy()).max((1, 2)), largest / grid["steps"] * 0.51 + 1e-12)
    assert (restored[given.numpy() == 0] == 0).all(), "nothing stays nothing"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pages.circuitsvis("Attention", {}), "name='Attention': choose one of AttentionHeads"),
        (lambda: grid_of(tokens=["a"]), "tokens has 1 entries"),
        (lambda: pages.Choice("Head", {}), "needs at least one"),
        (lambda: grid_of(names=["a"]), "names has 1 entries"),
        (lambda: grid_of(groups=["a"]), "groups has 1 entries"),
        (lambda: grid_of(patterns=-torch.ones(2, 3, 3)), "negative"),
        (lambda: grid_of(patterns=torch.full((2, 3, 3), math.nan)), "missing"),
    ],
)
def test_bad_fragments_are_refused(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def grid_of(**changes):
    given = {"patterns": patterns(2, 3), "tokens": ["a"] * 3, "names": ["x", "y"]} | changes
    return pages.attention_grid(given.pop("patterns"), caption="c", **given)


@pytest.mark.parametrize("name", ["index", "a/b", "../x", "a b", ""])
def test_names_that_are_no_file_names_are_refused_before_writing(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match="names become files"):
        pages.render_result(tmp_path, manifest=manifest(), tables={}, figures={name: drawn()["scores"]}, summary="s")
    assert not list(tmp_path.iterdir())


def test_index_lists_every_result_and_what_fails(site: Path, tmp_path: Path):
    for experiment, model, holds in (("one", "a", True), ("one", "b", False), ("two", "a", True)):
        made = manifest() | {"experiment": experiment, "model": {"name": model}}
        made["identities"] = [made["identities"][0] | {"holds": holds}]
        folder = tmp_path / experiment / model
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(made))
    pages.render_index(tmp_path)
    page = Parsed((tmp_path / "index.html").read_text(encoding="utf-8"))
    hrefs = [attrs["href"] for attrs in page.all("a") if attrs["href"].endswith("index.html")]
    assert hrefs == ["one/a/index.html", "one/b/index.html", "two/a/index.html"]
    verdicts = [attrs["class"] for attrs in page.all("span") if "verdict" in (attrs.get("class") or "")]
    assert verdicts.count("verdict pass") == 2
    assert verdicts.count("verdict fail") == 2, "the card and the sum above"
    assert "2 experiments, 3 results" in page.text


def test_index_of_an_empty_folder_says_how_to_fill_it(tmp_path: Path):
    pages.render_index(tmp_path)
    assert "python -m experiments --all" in (tmp_path / "index.html").read_text()


def test_unfinished_runs_are_not_listed(tmp_path: Path):
    folder = tmp_path / "one" / ".a.x.unfinished"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest()))
    pages.render_index(tmp_path)
    assert "unfinished" not in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"summary": 1}'])
def test_a_damaged_manifest_is_listed_as_damaged(tmp_path: Path, content: str):
    for model, text in (("bad", content), ("good", json.dumps(manifest()))):
        folder = tmp_path / "site_example" / model
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(text)
    pages.render_index(tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "manifest cannot be read" in text
    assert "site_example/good/index.html" in text
    assert manifest()["summary"] in text


def test_assets_are_written_once_and_repaired(tmp_path: Path):
    pages.write_assets(tmp_path)
    files = {name: tmp_path / "assets" / name for name in ASSET_NAMES}
    before = {name: path.stat().st_mtime_ns for name, path in files.items()}
    files["site.css"].write_text("broken")
    pages.write_assets(tmp_path)
    assert {name for name, path in files.items() if path.stat().st_mtime_ns != before[name]} == {"site.css"}
    assert "--accent" in files["site.css"].read_text()


def test_same_input_gives_the_same_bytes(tmp_path: Path):
    first, second = tmp_path / "a", tmp_path / "b"
    one, other = write_site(first), write_site(second)
    for path in sorted(one.rglob("*.html")):
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_json_cannot_end_its_script():
    text = json_for_page({"token": "</script><!--\u2028"})
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"token": "</script><!--\u2028"}


def test_numbers_are_rounded_and_missing_ones_null():
    given = {"a": torch.tensor([0.123456, 1.0, float("nan"), -0.00001]), "b": [1 / 3, math.inf], "c": np.int64(7)}
    assert plain(given) == {"a": [0.1235, 1, None, 0], "b": [0.33333, None], "c": 7}
    assert plain(np.array([123456.0, 1.26])) == [123456, 1]
    figure = plain_figure({"z": np.array([[1 / 3, math.nan]]), "n": 123456.0, "t": "a\u200b"})
    assert figure == {"z": [[0.33333, None]], "n": 123456, "t": "a\u200b"}


def test_an_infinite_or_missing_cell_has_a_place_in_the_order(tmp_path: Path):
    frame = pd.DataFrame({"x": [math.inf, math.nan, -math.inf]})
    table = Table(frame, {"x": Column("x")}, "c")
    pages.render_result(tmp_path, manifest=manifest(), tables={"t": table}, figures={}, summary="s")
    page = Parsed((tmp_path / "index.html").read_text())
    assert not [cell for cell in page.all("td")[:3] if "data-sort" in cell], "the text itself is the number"
    assert re.findall(r"<td class=.n.>(.*?)</td>", (tmp_path / "index.html").read_text())[:3] == ["inf", "", "-inf"]
