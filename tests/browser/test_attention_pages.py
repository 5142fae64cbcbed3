"""The attention experiment's pages, written as a user's run writes them, in a real browser with the network off."""

from pathlib import Path

import pytest
from site_example import HOSTILE

import experiments
from lens_utils.attention.views import VIEWS
from lens_utils.experiment import main_of_all

TALE = 'One day, Lucy asks Tom: "Where is the ball?"'
RUNS = {
    "zoo-stories-1l": (TALE, *(token for token in HOSTILE if token != "\ud800" and "\x00" not in token)),
    "zoo-attn-2l": (TALE,),
    "zoo-bert-2l": ("Tom was not happy because he lost his ball.",),
}
NAMES = (*VIEWS, "side_by_side_layer_0", "z_layer_0", "z_on_the_text", "token_predictions", "index")
EVERY = [(model, name) for model in RUNS for name in NAMES]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("attention") / "results"
    for model, prompts in RUNS.items():
        with pytest.raises(SystemExit) as ended:
            main_of_all(
                experiments,
                arguments=["attention_patterns", "--model", model, "--prompts", *prompts, "--out", str(root)],
            )
        assert ended.value.code == 0
    return root / "attention_patterns"


def page_of(results: Path, model: str, name: str) -> Path:
    (folder,) = results.glob(f"{model}--*")
    return folder / f"{name}.html"


@pytest.mark.parametrize(("model", "name"), EVERY)
def test_every_page_draws_without_error_or_request(watched, results: Path, model: str, name: str):
    page = watched.open(page_of(results, model, name))
    title = page.title()
    watched.draw_all()
    assert page.title() == title
    for host in page.locator("[data-plot]").all():
        assert host.locator("svg.main-svg").first.is_visible()
    for host in page.locator("[data-component]").all():
        assert host.locator("div[id]").first.inner_text().strip()
    for host in page.locator("[data-grid]").all():
        assert host.locator(".paper canvas").count() == 1
        assert host.locator(".thumbs button").count() == host.locator(".thumbs canvas").count() > 1
    watched.check()


@pytest.mark.parametrize("name", [*VIEWS, "z_on_the_text", "token_predictions"])
def test_hostile_prompts_run_nothing(watched, results: Path, name: str):
    page = watched.open(page_of(results, "zoo-stories-1l", name))
    title = page.title()
    watched.draw_all()
    for element in page.locator(".words button, .paper span").all()[:60]:
        if element.is_visible():
            element.hover(force=True)
    page.wait_for_timeout(200)
    assert page.title() == title
    assert page.locator("main script:not([type='application/json'])").count() == 0
    assert page.locator("main img, main [onload], main [onerror], main svg[onload]").count() == 0
    text = page.locator("main").inner_text()
    for shown in (HOSTILE[0], HOSTILE[1], HOSTILE[4], "zero<U+200B>width<U+202E>turned", "leading space\nnew line"):
        assert shown in text, shown
    watched.check()


def test_pointing_at_a_token_shows_where_it_attends(watched, results: Path):
    page = watched.open(page_of(results, "zoo-attn-2l", "pattern"))
    watched.draw_all()
    grid = page.locator("[data-grid]").first
    told, tokens = grid.locator(".told"), grid.locator(".words button")
    before = told.inner_text()
    tokens.nth(6).hover()
    after = told.inner_text()
    assert after != before
    assert "(6)" in after
    assert "attends to" in after
    weights = tokens.evaluate_all("all => all.map((one) => Number(one.style.getPropertyValue('--weight')))")
    assert max(weights) == 1
    assert weights[7:] == [0] * (len(weights) - 7), "a causal head sees nothing ahead"
    grid.locator("[data-direction]").select_option("to")
    assert "(6)" in told.inner_text(), "the pointer has not moved"
    assert "is attended to by" in told.inner_text()
    backwards = tokens.evaluate_all("all => all.map((one) => Number(one.style.getPropertyValue('--weight')))")
    assert backwards[:6] == [0] * 6
    watched.check()


def test_a_click_keeps_a_token_and_arrows_move_on(watched, results: Path):
    page = watched.open(page_of(results, "zoo-attn-2l", "pattern"))
    watched.draw_all()
    grid = page.locator("[data-grid]").first
    grid.locator(".words button").nth(4).click()
    page.mouse.move(5, 5)
    assert "(4)" in grid.locator(".told").inner_text()
    grid.locator(".words button").nth(4).focus()
    page.keyboard.press("ArrowRight")
    assert "(5)" in grid.locator(".told").inner_text()
    watched.check()


def test_tab_reaches_a_head_and_enter_selects_it(watched, results: Path):
    page = watched.open(page_of(results, "zoo-attn-2l", "norm_weighted"))
    watched.draw_all()
    grid = page.locator("[data-grid]").first
    canvas = grid.locator(".paper canvas")
    canvas.wait_for()
    page.wait_for_timeout(800)
    before, told = canvas.screenshot(), grid.locator(".told").inner_text()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.thumbs') !== null"):
            break
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    focused = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert focused == "solid", "the focus is seen"
    page.keyboard.press("Enter")
    assert grid.locator(".thumbs [aria-pressed=true]").inner_text() == "L0H3"
    assert watched.until(lambda: canvas.screenshot() != before)
    assert grid.locator(".told").inner_text() != told
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.words, .pick') !== null"), "on to the text"
    watched.check()


def test_colours_of_each_head_its_own(watched, results: Path):
    page = watched.open(page_of(results, "zoo-stories-1l", "norm_weighted"))
    watched.draw_all()
    grid = page.locator("[data-grid]").first
    canvases = grid.locator(".thumbs canvas")
    darkest = """all => all.map((one) => {
        const data = one.getContext("2d").getImageData(0, 0, one.width, one.height).data;
        let least = 255;
        for (let i = 0; i < data.length; i += 4) least = Math.min(least, data[i]);
        return least; })"""
    alike = canvases.evaluate_all(darkest)
    assert min(alike) <= 12
    assert len(set(alike)) > 3, "a head that moves little is pale"
    grid.locator("[data-scale]").select_option("own")
    assert set(canvases.evaluate_all(darkest)) == {11}, "each head's largest weight is full blue"
    watched.check()


def test_a_signed_view_shows_both_signs(watched, results: Path):
    page = watched.open(page_of(results, "zoo-stories-1l", "attention_times_value"))
    watched.draw_all()
    grid = page.locator("[data-grid]").first
    minus = grid.locator(".words button.minus")
    seen = []
    for button in grid.locator(".thumbs button").all():
        button.click()
        for word in grid.locator(".words button").all():
            word.hover()
            seen.append(minus.count())
    assert 0 in seen
    assert max(seen) > 0, "a source that works against z is marked in the text"
    found = page.evaluate(
        """() => [...document.querySelectorAll(".thumbs canvas")].some((one) => {
        const data = one.getContext("2d").getImageData(0, 0, one.width, one.height).data;
        for (let i = 0; i < data.length; i += 4) if (data[i] > data[i + 2] + 5) return true;
        return false; })"""
    )
    assert found, "orange somewhere"
    watched.check()


def test_masked_patterns_are_not_cut_off(watched, results: Path):
    page = watched.open(page_of(results, "zoo-bert-2l", "pattern"))
    watched.draw_all()
    grid = page.locator("[data-grid]").first
    grid.locator(".words button").nth(1).hover()
    weights = grid.locator(".words button").evaluate_all(
        "all => all.map((one) => Number(one.style.getPropertyValue('--weight')))"
    )
    assert max(weights[2:]) > 0, "what is ahead can be seen"
    watched.check()


def test_tables_sort_by_keyboard(watched, results: Path):
    page = watched.open(page_of(results, "zoo-stories-1l", "index"))
    page.locator("#headline details > summary").first.click()  # folded, as it has more than a hundred rows
    first = "#headline tbody tr:first-child td:nth-child(3)"
    before = page.locator(first).inner_text()
    page.locator("#headline th button", has_text="entropy").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#headline th[aria-sort=descending]").count() == 1
    highest = float(page.locator(first).inner_text())
    assert highest >= float(before)
    page.keyboard.press("Enter")
    assert float(page.locator(first).inner_text()) <= float(before)
    watched.check()


def test_likeliest_tokens_show_on_hover(watched, results: Path):
    page = watched.open(page_of(results, "zoo-bert-2l", "token_predictions"))
    watched.draw_all()
    likely = page.locator("[data-component]").nth(1)
    rows = likely.locator("table tr")
    assert rows.count() == 0
    likely.locator("span span").nth(3).hover()
    rows.first.wait_for()
    assert rows.count() == 12, "a heading, the token itself, ten alternatives"
    watched.check()


@pytest.mark.parametrize("watched", [{"width": 390}, {"width": 390, "scheme": "dark"}], indirect=True)
@pytest.mark.parametrize(("model", "name"), [("zoo-stories-1l", name) for name in NAMES])
def test_a_phone_scrolls_only_downwards(watched, results: Path, model: str, name: str):
    page = watched.open(page_of(results, model, name))
    watched.draw_all()
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    watched.check()
