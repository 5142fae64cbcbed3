"""A real headless Chromium, or a skip that says what is missing."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from site_example import write_site

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass
class Watched:
    """A browser page that remembers what it should not have done."""

    page: object
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: Path) -> object:
        """Go to a file and wait until its scripts have run."""
        self.page.goto(path.as_uri())
        self.page.wait_for_load_state("load")
        return self.page

    def draw_all(self) -> None:
        """Scroll to every figure and component, those behind choices too, and wait until it is drawn."""
        self._draw_visible()
        for select in self.page.locator("[data-choice] select").all():
            for option in range(select.locator("option").count()):
                select.select_option(index=option)
                self._draw_visible()

    def _draw_visible(self) -> None:
        hosts = self.page.locator("[data-plot], [data-component], [data-grid]").filter(visible=True)
        for host in hosts.element_handles():
            host.scroll_into_view_if_needed()
            self.page.wait_for_function("host => host.dataset.ready === 'yes'", arg=host, timeout=90_000)

    def until(self, holds: Callable[[], bool], *, seconds: float = 30) -> bool:
        """Whether `holds` becomes true in time; a busy machine draws late, never wrongly."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                return False
            self.page.wait_for_timeout(100)
        return True

    def check(self) -> None:
        """No console error, no exception, no request that leaves the file system."""
        assert self.errors == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """One browser for the session."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install '.[test]')"
    )
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(FLAGS))
        # The first navigation starts processes of its own, which on a busy machine takes longer than any page.
        first = browser.new_page()
        first.goto("data:text/html,ready", timeout=180_000)
        first.close()
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example site, written once."""
    root = tmp_path_factory.mktemp("browser") / "results"
    write_site(root)
    return root


@pytest.fixture
def watched(chromium, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A fresh page; parametrise indirectly with {"scheme": ..., "width": ...}."""
    wanted = {"scheme": "light", "width": 1280} | getattr(request, "param", {})
    context = chromium.new_context(
        viewport={"width": wanted["width"], "height": 900}, color_scheme=wanted["scheme"], offline=True
    )
    seen = Watched(context.new_page())
    seen.page.set_default_timeout(180_000)
    seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
    seen.page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    seen.page.on("request", lambda made: seen.requests.append(made.url))
    yield seen
    context.close()
