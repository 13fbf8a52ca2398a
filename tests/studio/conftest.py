"""A browser that opens reports from disk and writes down whatever they ask for or complain of."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


class OpenReport:
    """A page that shows a report, with its requests and its console's messages."""

    def __init__(self, page: Page, file: Path):
        self.page = page
        self.requests: list[str] = []
        self.messages: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.goto(file.as_uri())
        self.own_url = file.as_uri()

    def assert_silent(self) -> None:
        """Nothing was fetched but the page, and nothing complained."""
        assert self.requests == [self.own_url]
        assert self.messages == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium in CI")
        pytest.skip(f"no browser here: none of {', '.join(NAMES)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_report(browser: Browser) -> Iterator[Callable[[Path], OpenReport]]:
    """A function that opens a report in a new window, 1280 wide."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield lambda file: OpenReport(context.new_page(), file)
