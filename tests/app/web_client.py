"""The web app in a real Chromium, against a real server on a gallery of drawn faces, for the tests of its pages.

A page that logs an error, breaks its Content-Security-Policy or asks any other host for anything fails its test.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from tests.app.server_client import EASY, gallery, service
from visavis.app.server.application import make_app
from visavis.app.server.service import Service

__all__ = ["Web", "browser", "expect_accessible", "gallery", "server", "service", "serving", "wait_for", "web"]

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

SETTLED = """Promise.all(document.getAnimations().map(
    (one) => one.effect.getTiming().iterations === Infinity || one.finished.catch(() => {})))"""


class Web:
    """A page of the browser, and the server it is at; `goto` and `page` are what a test works with."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.expected: tuple[str, ...] = ()  # parts of console errors that a test is about
        self._complaints: list[str] = []
        page.set_default_timeout(60_000)
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => "
            "window.isChecked || console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`))"
        )
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        page.on("request", self._request)

    def goto(self, path: str = "/") -> Any:
        """Open a path and wait for its heading; the page."""
        self.page.goto(self.address + path)
        self.page.wait_for_selector("main h1")
        return self.page

    def complaints(self) -> list[str]:
        """What the browser has to complain about, except what was expected."""
        return [one for one in self._complaints if not any(part in one for part in self.expected)]

    def _console(self, message: Any) -> None:
        # The event tells of violations, too, and is quiet while axe-core tries to add a style of its own.
        if message.type == "error" and not message.text.startswith("Applying inline style violates"):
            self._complaints.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", f"blob:{self.address}")):
            self._complaints.append(f"request to {request.url}")


def expect_accessible(page: Any, **options: Any) -> None:
    """Fail on whatever axe-core finds, contrast included."""
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate(SETTLED)
    page.evaluate("window.isChecked = true")
    found = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"], **options})
    page.evaluate("window.isChecked = false")
    assert not found.violations_count, found.generate_report()


def wait_for(condition: Callable[[], Any]) -> Any:
    """What `condition` gives once that is true. In pages with our policy Playwright's own `wait_for_function` fails."""
    until = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < until, "it took longer than a minute"
        time.sleep(0.02)
    return found


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve in a thread on a free port; the address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not server.started and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")  # not longer: its event loop is in the way of other modules' own
def browser(chromium: str) -> Iterator[Any]:
    """One Chromium for all tests of a module."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def server(service: Service) -> Iterator[str]:
    """The address of a server of `service`."""
    with serving(make_app(service, EASY)) as address:
        yield address


@pytest.fixture
def web(browser: Any, server: str) -> Iterator[Web]:
    """A new window at the server, 1280 x 800, in English."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB", reduced_motion="reduce")
    web = Web(context.new_page(), server)
    yield web
    context.close()
    assert not web.complaints(), "\n".join(web.complaints())
