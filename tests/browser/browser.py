"""The distribution's Chromium, and windows in it that are watched for what no page of ours may do."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

expect.set_options(timeout=20_000)  # ms: only how long to wait for what does not come

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_REFUSED = "Failed to load resource: "
"""How Chromium's console tells of every answer above 399, and of a server that is away."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a screen; skips the test where there is none."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    switches = ["--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    if os.geteuid() == 0:
        switches.append("--no-sandbox")  # Chromium's own does not work for root.
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=switches)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Faults:
    """What a window did that none may do. With `refusals` an answer above 399, or none at all, is none of it."""

    origin: str
    refusals: bool = False
    found: list[str] = field(default_factory=list)

    def console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not (self.refusals and message.text.startswith(_REFUSED)):
            self.found.append(f"{message.type} on the console: {message.text}")

    def request(self, request: Request) -> None:
        if not request.url.startswith(f"{self.origin}/"):
            self.found.append(f"asked another origin for {request.url}")


@asynccontextmanager
async def window(
    browser: Browser,
    link: str,
    *,
    size: tuple[int, int] = (1280, 860),
    scheme: Literal["light", "dark"] = "light",
    refusals: bool = False,
) -> AsyncIterator[Page]:
    """The page that `link` leads to, entered. At the end nothing may be amiss: no error, no request to elsewhere."""
    faults = Faults(link.partition("/enter")[0], refusals)
    viewport = {"width": size[0], "height": size[1]}
    context = await browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    context.set_default_timeout(20_000)
    page = await context.new_page()
    page.on("console", faults.console)
    page.on("pageerror", lambda error: faults.found.append(f"a mistake in a script: {error}"))
    page.on("request", faults.request)
    try:
        await page.goto(link)
        await page.wait_for_selector("#state:not([data-state=offline])", state="attached")
        yield page
        assert await page.evaluate("window.pwned") is None, "a text was run as a script"
        assert faults.found == []
    finally:
        await context.close()
