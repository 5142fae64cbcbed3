"""The results site in a real browser, opened from the file system with the network off."""

from pathlib import Path

import pytest
from site_example import HOSTILE, drawn, manifest

RESULT = Path("site_example") / "zoo-stories-1l"
NAMES = ("index", *sorted(drawn()))


@pytest.mark.parametrize("name", NAMES)
def test_every_page_draws_without_error_or_request(watched, site: Path, name: str):
    page = watched.open(site / RESULT / f"{name}.html")
    watched.draw_all()
    for host in page.locator("[data-plot]").all():
        assert host.locator("svg.main-svg").count()
    for host in page.locator("[data-plot]").filter(visible=True).all():
        assert host.locator("svg.main-svg").first.is_visible()
    for host in page.locator("[data-component]").all():
        assert host.locator("div[id]").first.inner_text().strip() or host.locator("canvas").count()
    watched.check()


@pytest.mark.parametrize("name", ["index", "hostile_tokens", "hostile", "embedding"])
def test_hostile_tokens_run_nothing(watched, site: Path, name: str):
    page = watched.open(site / RESULT / f"{name}.html")
    title = page.title()
    watched.draw_all()
    for element in page.locator(".points .point, .paper canvas, .paper td, .paper span").all()[:25]:
        if element.is_visible():
            element.hover(force=True)
    page.wait_for_timeout(200)
    assert page.title() == title
    assert page.locator("main script:not([type='application/json'])").count() == 0
    assert page.locator("main img[src=x], main [onload], main [onerror], main svg[onload]").count() == 0
    watched.check()


def test_hostile_tokens_are_shown_as_text(watched, site: Path):
    page = watched.open(site / RESULT / "hostile_tokens.html")
    watched.draw_all()
    for host in page.locator("[data-component]").all():
        name = host.locator("xpath=../figcaption").inner_text().split(":")[0]
        if name in ("AttentionPattern", "AttentionHeads"):
            continue  # drawn on a canvas, whose text cannot be read back
        text = host.inner_text().replace("\u00a0", " ")
        shown = [token for token in HOSTILE[:3] if token in text]
        assert shown, f"{name}: {text[:300]}"
        assert "&nbsp;" not in text, name
        assert "&lt;" not in text, name
    watched.check()


def test_the_policy_stops_what_the_pages_do_not(watched, site: Path):
    """The second line of defence: even markup that got in could not run."""
    page = watched.open(site / RESULT / "index.html")
    page.evaluate(
        """() => { const made = document.createElement("script"); made.textContent = "document.title = 'run'";
        document.body.append(made);
        document.body.insertAdjacentHTML("beforeend", "<img src=x onerror=\\"document.title='run'\\">"); }"""
    )
    page.wait_for_timeout(300)
    assert page.title() != "run"
    assert any("Content Security Policy" in error for error in watched.errors)


def test_inner_html_is_text(watched, site: Path):
    page = watched.open(site / RESULT / "index.html")
    children = page.evaluate(
        """() => { const made = document.createElement("div"); made.innerHTML = "<b>x</b>&nbsp;y";
        return [made.childElementCount, made.textContent]; }"""
    )
    assert children == [0, "<b>x</b>\u00a0y"]


def column(page, index: int) -> list[str]:
    return page.locator(f"#headline tbody td:nth-child({index})").all_inner_texts()


def test_sorting_by_number_and_by_text(watched, site: Path):
    page = watched.open(site / RESULT / "index.html")
    score = page.locator("#headline th button", has_text="score")
    score.click()
    assert column(page, 3) == ["12.5", "3", "0.91", "0.5", "0.1", "1e-09", "-0.25", ""]
    assert page.locator("#headline th[aria-sort=descending]").inner_text().startswith("score")
    score.click()
    assert column(page, 3) == ["-0.25", "1e-09", "0.1", "0.5", "0.91", "3", "12.5", ""], "missing stays last"
    page.locator("#headline th button", has_text="reads").press("Enter")
    assert column(page, 2)[:2] == ["commas", "commas"]
    assert page.locator("#headline th[aria-sort]").count() == 1
    page.locator("#headline th button", has_text="tokens").press("Space")
    assert column(page, 4) == ["100", "10", "9", "5", "4", "3", "2", "1"], "numbers, not words"
    watched.check()


def test_choosing_a_head_changes_what_is_drawn(watched, site: Path):
    page = watched.open(site / RESULT / "attention.html")
    watched.draw_all()
    grid, canvas = page.locator("[data-grid]"), page.locator("[data-grid] .paper canvas").first
    canvas.wait_for()
    page.wait_for_timeout(1200)
    before, readout = canvas.screenshot(), grid.locator(".readout").inner_text()
    grid.locator("button").nth(5).hover()
    assert grid.locator(".readout").inner_text() != readout, "hovering tells about the head"
    grid.locator("button").nth(5).click()
    assert grid.locator("[aria-pressed=true]").inner_text() == "L0H5"
    assert watched.until(lambda: canvas.screenshot() != before)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert grid.locator("[aria-pressed=true]").inner_text() == "L0H4"
    watched.check()


def test_a_choice_shows_one_set_of_figures_and_draws_it_when_chosen(watched, site: Path):
    page = watched.open(site / RESULT / "chosen.html")
    first = page.locator("[data-choice]")
    assert first.count() == 1, "nothing to choose from with one option"
    first.locator("[data-ready]").first.wait_for()
    assert first.locator(".option:visible").count() == 1
    assert first.locator("[data-ready]").count() == 1
    assert first.locator("h4:visible").inner_text() == "L0H0"
    first.locator("select").select_option("L0H2")
    assert first.locator("h4:visible").inner_text() == "L0H2"
    first.locator(".option:visible [data-ready]").wait_for()
    assert first.locator("[data-ready]").count() == 2
    watched.check()


def test_hovering_a_figure_names_the_tokens(watched, site: Path):
    page = watched.open(site / RESULT / "heatmap.html")
    watched.draw_all()
    page.locator(".nsewdrag").first.hover()
    label = page.locator(".hoverlayer .hovertext").first
    label.wait_for()
    assert "neuron" in label.text_content()
    watched.check()


def test_large_pages_are_loaded_when_opened(watched, site: Path):
    page = watched.open(site / RESULT / "index.html")
    assert not [url for url in watched.requests if "attention.html" in url]
    section = page.locator("#attention")
    section.locator("summary").click()
    inside = section.frame_locator("iframe")
    inside.locator("[data-grid][data-ready=yes]").wait_for()
    assert not inside.locator("header.top").is_visible(), "no second heading inside the page"
    assert watched.until(lambda: section.locator("iframe").bounding_box()["height"] > 600), "as high as what it shows"
    watched.check()


def test_the_command_is_copied(watched, site: Path):
    page = watched.open(site / RESULT / "index.html")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = page.locator("[data-copy]")
    button.focus()
    page.keyboard.press("Enter")
    page.locator("[data-copy]", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == manifest()["command"]


@pytest.mark.parametrize("watched", [{"scheme": "dark"}, {"scheme": "light"}], indirect=True)
def test_colours_follow_the_scheme_and_its_change(watched, site: Path):
    page = watched.open(site / RESULT / "index.html")
    watched.draw_all()

    def brightness(selector: str, style: str) -> float:
        # In one step: a figure that is drawn again exchanges its elements.
        code = "([selector, style]) => getComputedStyle(document.querySelector(selector))[style]"
        colour = page.evaluate(code, [selector, style])
        return sum(float(part) for part in colour.strip("rgba()").split(",")[:3]) / 3

    def is_dark() -> bool:
        dark = brightness("body", "backgroundColor") < 64
        assert (brightness("body", "color") > 160) == dark
        assert (brightness(".plot .xtick text", "fill") > 160) == dark
        return dark

    was = is_dark()
    page.emulate_media(color_scheme="light" if was else "dark")
    assert watched.until(lambda: (brightness(".plot .xtick text", "fill") > 160) != was)
    assert is_dark() != was
    watched.check()


@pytest.mark.parametrize("watched", [{"width": 390}, {"width": 320}], indirect=True)
@pytest.mark.parametrize("name", ["index", "attention", "hostile_tokens"])
def test_a_phone_scrolls_only_downwards(watched, site: Path, name: str):
    page = watched.open(site / RESULT / f"{name}.html")
    watched.draw_all()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_everything_is_reached_by_keyboard(watched, site: Path):
    page = watched.open(site / RESULT / "index.html")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.textContent.trim()"))
    assert "A Skip to the content" in reached
    assert "BUTTON Copy" in reached
    assert any(item.startswith("BUTTON score") for item in reached)
    assert "SUMMARY Show here" in reached or any("SUMMARY" in item for item in reached)


def test_the_index_leads_to_the_result(watched, site: Path):
    page = watched.open(site / "index.html")
    assert page.locator(".card .verdict.fail").inner_text() == "1 of 2 identities fail"
    page.locator(".card a").click()
    assert page.locator("h1").inner_text().lower().startswith("site example on zoo-stories-1l")
    watched.check()
