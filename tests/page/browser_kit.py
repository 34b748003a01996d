"""A server, and a browser that looks at it. The browser is Debian's ``chromium``; nothing is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from gristmill.service.server import Server

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PATIENCE = 30_000.0  # milliseconds
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser. Without one the tests are skipped; but not in CI, which sets ``GRISTMILL_TEST_BROWSER``."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        (pytest.fail if os.environ.get("GRISTMILL_TEST_BROWSER") else pytest.skip)("no chromium: run `make browser`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """Somebody who looks at a server, and what their browser complains about."""

    def __init__(self, context: BrowserContext, server: Server) -> None:
        self.server = server
        self.context = context
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        context.set_default_timeout(PATIENCE)
        context.on("request", self._asked)
        self.page = self.open()

    def open(self) -> Page:
        """Another tab."""
        page = self.context.new_page()
        page.on("console", lambda said: self._complain(said.type, said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def go(self, path: str) -> Page:
        """Go to a page."""
        self.page.goto(self.server.url + path)
        return self.page

    def log_in(self, token: str) -> None:
        """By the link that the server prints."""
        self.go(f"/?token={token}")
        self.page.wait_for_selector("h1:has-text('Jobs')")

    def axe(self) -> list[str]:
        """What axe finds wrong with the page, as it looks now."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    def _complain(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme != "data" and parts.netloc != urlsplit(self.server.url).netloc:
            self.foreign.append(request.url)


@contextmanager
def visit(browser: Browser, server: Server, token: str = "", **options: object) -> Iterator[Visit]:
    """Somebody looks at a server, as whom a token says. At the end nothing may have been wrong in their browser."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})  # type: ignore[arg-type]
    try:
        visitor = Visit(context, server)
        if token:
            visitor.log_in(token)
        yield visitor
        assert not visitor.foreign, "a request left the site"
        assert not visitor.complaints
    finally:
        context.close()
