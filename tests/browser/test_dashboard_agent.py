"""The page of an agent in a browser, in front of a real daemon and a harness that follows a script."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.browser.test_dashboard_overview import HOSTILE, opened
from tests.helpers.dashboard import ServedDashboard, dashboard
from tests.helpers.real_daemon import Daemon, running

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SAID = "I look at **names**.\n\n```python\ndef valid(): ...\n```\n\n[a](javascript:pwned=1) {body}"
SCRIPT: list[dict[str, Any]] = [
    {"match": "^work", "say": SAID, "think": 1.0, "send": [{"to": "operator", "text": "done {body}"}]},
    {"match": "^sleep", "think": 60},
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ada() -> AsyncIterator[Daemon]:
    """A daemon with an agent that is at rest."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with running(Daemon(Path(home), settings={"stop_timeout": 2})) as daemon:
            await daemon.spawn("ada", script=SCRIPT)
            await daemon.agent_until("ada", lambda status: status["state"] == "idle")
            yield daemon


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def web(ada: Daemon) -> AsyncIterator[ServedDashboard]:
    """The dashboard in front of it."""
    async with dashboard(ada.host_socket) as served:
        yield served


async def test_turns_stream_and_are_steered(browser: Browser, ada: Daemon, web: ServedDashboard) -> None:
    """Text is seen while it is written and formatted then; hostile words stay words; keys and buttons act."""
    async with opened(browser, web, "/agents/ada") as page:
        await page.keyboard.press("m")
        await page.keyboard.type(f"work {HOSTILE}")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".writing")).to_contain_text("I look at")
        first = page.get_by_role("article", name="Turn 1")
        await expect(first.locator(".said strong")).to_have_text("names")
        await expect(first.locator(".code .hl-nf")).to_have_text("valid")
        await expect(page.locator(".writing")).to_have_count(0)
        await expect(first.locator(".letter")).to_contain_text("<img src=x onerror=pwned=1>\\u202e\\x1b[2J")
        await expect(first.locator(".sent[data-outcome=done]")).to_contain_text("done work <img src=x")
        assert await page.locator("main img, main a[href^=javascript]").count() == 0

        await ada.ask("POST", "/v1/questions", {"text": HOSTILE, "options": ["Yes", "<b>No"]}, agent="ada")
        await page.get_by_role("button", name="Yes").click()
        await expect(page.locator(".question")).to_have_count(0)

        await page.get_by_label("Message to ada").fill("sleep well")
        await page.get_by_role("button", name="Send").click()
        second = page.get_by_role("article", name="Turn 3")  # The answer began one, too.
        await expect(second).to_have_attribute("data-state", "running")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.keyboard.press("Escape")
        await page.keyboard.press("x")
        await expect(second).to_have_attribute("data-state", "held")
        await page.keyboard.press("k")
        await expect(second.locator("summary").first).to_be_focused()
        await page.keyboard.press("k")
        await expect(page.locator("#turn-2 summary").first).to_be_focused()
        before = await first.inner_text()
        await page.reload()
        await first.locator("summary").first.click()
        await expect(first.locator(".said strong")).to_have_text("names")
        await expect(first.locator(".sent")).to_have_count(1)
        assert before.count("done") == (await first.inner_text()).count("done")
        await second.get_by_role("button", name="Skip").click()
        await expect(second).to_have_attribute("data-state", "skipped")
    async with opened(browser, web, "/agents/ada?turn=1", width=390) as page:
        await expect(page.locator("#turn-1 .said strong")).to_have_text("names")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
