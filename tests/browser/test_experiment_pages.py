"""The pages of real runs: every figure draws, heads and tokens answer to pointer and keyboard, figures save as SVG."""

from pathlib import Path

import pytest

import experiments
from lens_utils.experiment import main_of_all

RUNS = {
    "attention_patterns": ["--model", "zoo-attn-1l", "--prompts", 'Tom said: "Hello!"', "Lucy saw a <b> & </script>"],
    "head_classification": ["--model", "zoo-bert-2l", "--stories", "4", "--repeats", "4"],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both experiments, run as a user runs them."""
    root = tmp_path_factory.mktemp("runs")
    for name, options in RUNS.items():
        with pytest.raises(SystemExit) as ended:
            main_of_all(experiments, arguments=[name, *options, "--out", str(root)])
        assert ended.value.code == 0
    return root


def pages_of(root: Path, name: str) -> list[Path]:
    (folder,) = [path for path in (root / name).iterdir() if path.is_dir()]
    return sorted(folder.glob("*.html"))


@pytest.mark.parametrize("watched", [{"scheme": "light"}, {"scheme": "dark", "width": 390}], indirect=True)
@pytest.mark.parametrize("name", sorted(RUNS))
def test_every_page_draws(watched, results: Path, name: str) -> None:
    listed = pages_of(results, name)
    assert len(listed) >= 3
    for path in listed:
        page = watched.open(path)
        watched.draw_all()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path.name} scrolls sideways"
    watched.check()


def test_hovering_a_token_changes_the_text_view(watched, results: Path) -> None:
    (path,) = [path for path in pages_of(results, "attention_patterns") if path.stem == "pattern"]
    page = watched.open(path)
    watched.draw_all()
    grid = page.locator("[data-grid]").first
    before = grid.locator(".told").inner_text()
    grid.locator(".words button:not(.pointed)").last.hover()
    assert grid.locator(".told").inner_text() != before
    watched.check()


def test_a_head_is_chosen_by_keyboard(watched, results: Path) -> None:
    (path,) = [path for path in pages_of(results, "head_classification") if path.stem == "attention"]
    page = watched.open(path)
    watched.draw_all()
    grid = page.locator("[data-grid]").first
    grid.locator("[aria-pressed=true]").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert grid.locator("[aria-pressed=true]").inner_text().startswith("L0H1")
    watched.check()


def test_a_figure_is_saved_as_svg(watched, results: Path, tmp_path: Path) -> None:
    (path,) = [path for path in pages_of(results, "head_classification") if path.stem == "lift"]
    page = watched.open(path)
    watched.draw_all()
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as SVG").click()
    saving.value.save_as(tmp_path / "lift.svg")
    assert (tmp_path / "lift.svg").read_text(encoding="utf-8").startswith("<svg")
    watched.check()
