"""The page of a real harness under a real daemon, from the link that the daemon gives to both of them killed."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from hive_core.agents.store import choose_port
from tests.browser.browser import window
from tests.helpers.real_daemon import Daemon, Json, running

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SCRIPT: list[Json] = [
    {"match": "^work (.*)", "send": [{"to": "operator", "text": "done with {1}"}]},
    {"match": "^sleep", "think": 60},
]


def free_name() -> str:
    """An agent whose page gets a port that nothing listens on: other tests' daemons have agents, too."""
    while True:
        name = f"a{secrets.token_hex(3)}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", choose_port(name, ()))) != 0:
                return name


class Hive:
    """A daemon with one agent."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self.daemon = daemon
        self.name = name

    @asynccontextmanager
    async def page(self, browser: Browser) -> AsyncIterator[Page]:
        """A window on the agent's page."""
        ticket = await self.daemon.ask("POST", f"/v1/agents/{self.name}/page-tickets", {})
        link = f"http://127.0.0.1:{ticket['port']}/enter#{ticket['ticket']}"
        async with window(browser, link, refusals=True) as page:
            yield page

    async def harness(self) -> psutil.Process:
        """The agent's harness, when it is at rest."""
        await self.daemon.agent_until(self.name, lambda status: status["state"] == "idle")
        [harness] = psutil.Process(self.daemon.pid).children()
        return harness


@pytest_asyncio.fixture(loop_scope="session")
async def hive() -> AsyncIterator[Hive]:
    """A hive with an agent that follows a script."""
    home = Path(tempfile.mkdtemp(prefix="hive-"))
    try:
        async with running(Daemon(home)) as daemon:
            name = free_name()
            await daemon.spawn(name, script=SCRIPT)
            await daemon.agent_until(name, lambda status: status["state"] == "idle")
            yield Hive(daemon, name)
    finally:
        shutil.rmtree(home)


async def write(page: Page, text: str) -> None:
    await page.get_by_role("textbox", name="Message to").fill(text)
    await page.keyboard.press("Control+Enter")


async def test_a_day_at_an_agent(browser: Browser, hive: Hive) -> None:
    """A turn streams, another is cancelled, retried and skipped, a question answered; then both programs are killed,
    one after the other, and the page goes on by itself, with the same session and all that was.
    """
    async with hive.page(browser) as page:
        state = page.locator("#state-name")
        await expect(state).to_have_text("idle")
        await write(page, "work the fields")
        first = page.get_by_role("article", name="Turn 1")
        await expect(first.locator(".badge")).to_have_text("done")
        await expect(first.locator(".letter")).to_contain_text("work the fields")
        await expect(first.locator(".call summary")).to_contain_text("operator: done with the fields")

        asked = await hive.daemon.ask(
            "POST", "/v1/questions", {"text": "Shall I go on?", "options": ["Yes", "No"]}, agent=hive.name
        )
        await write(page, "sleep well")
        second = page.get_by_role("article", name="Turn 2")
        await second.get_by_role("button", name="Cancel").click()
        await expect(second.locator(".why")).to_contain_text("the operator stopped the turn")
        await second.get_by_role("button", name="Retry").click()
        await expect(second.locator(".badge")).to_have_text("running")
        await expect(second.locator(".facts")).to_contain_text("attempt 2")
        await second.get_by_role("button", name="Cancel").click()
        await second.get_by_role("button", name="Skip").click()
        await page.get_by_role("button", name="Skip it").click()
        await expect(second.locator(".badge")).to_have_text("skipped")
        await expect(page.locator("#inbox")).to_have_text("empty")

        await page.get_by_role("button", name="Yes").click()
        await expect(page.locator(".question")).to_have_count(0)
        listing = await hive.daemon.ask("GET", "/v1/questions?view=all")
        assert [(one["id"], one["answer"]) for one in listing["questions"]] == [(asked["id"], "Yes")]

        harness = await hive.harness()
        harness.send_signal(signal.SIGKILL)
        await expect(page.locator("#link")).to_be_visible()
        await expect(page.locator("#link")).to_be_hidden()
        await write(page, "work again")
        await expect(page.locator(".turn").last.locator(".call summary")).to_contain_text("done with again")

        await hive.daemon.kill()
        await expect(page.locator("#link")).to_be_visible()
        await hive.daemon.start()
        await expect(page.locator("#link")).to_be_hidden()
        await write(page, "work at last")
        await expect(page.locator(".turn").last.locator(".call summary")).to_contain_text("done with at last")
        await expect(first.locator(".badge")).to_have_text("done")
