"""The overview in a browser, in front of a real daemon: one hive for all tests, each with agents of its own."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.helpers.dashboard import ServedDashboard, dashboard
from tests.helpers.real_daemon import Daemon
from tests.integration.api.conftest import small_hive

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

HOSTILE = "<img src=x onerror=pwned=1>\u202e\x1b[2J"
SCRIPT: list[dict[str, Any]] = [{"match": "work", "think": 30.0}]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hive() -> AsyncIterator[Daemon]:
    """hm1nd, ann and bob, none of which runs."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with small_hive(Path(home)) as daemon:
            yield daemon


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def web(hive: Daemon) -> AsyncIterator[ServedDashboard]:
    """The dashboard in front of it."""
    async with dashboard(hive.host_socket) as served:
        yield served


@asynccontextmanager
async def opened(browser: Browser, web: ServedDashboard, path: str = "/", width: int = 1280) -> AsyncIterator[Page]:
    """A window; at the end no script may have failed, and nothing may have been refused by the policy."""
    context = await browser.new_context(viewport={"width": width, "height": 800})
    context.set_default_timeout(20_000)
    await web.sign_in(context)
    page = await context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    try:
        await page.goto(f"{web.origin}{path}")
        yield page
        assert await page.evaluate("window.pwned") is None, "a text was run as a script"
        assert [fault for fault in faults if not fault.startswith("Failed to load resource")] == []
    finally:
        await context.close()


async def test_overview_follows_the_hive(browser: Browser, hive: Daemon, web: ServedDashboard) -> None:
    """A new agent, its work, and its hostile words appear by themselves, and what is being typed stays."""
    async with opened(browser, web) as page:
        await expect(page.locator("tr[data-agent=ann]")).to_contain_text("stopped")
        question = {"text": HOSTILE, "options": ["One way"]}
        await hive.ask("POST", "/v1/questions", question, agent="bob")
        need = page.locator("[data-need=question]")
        await expect(need).to_contain_text("<img src=x onerror=pwned=1>\\u202e\\x1b[2J")
        await expect(page).to_have_title(re.compile(r"^\(1\) Overview "))
        field = page.get_by_role("textbox", name="Answer to bob")
        await field.fill("I am typ")

        await hive.spawn("ada", script=SCRIPT)
        row = page.locator("tr[data-agent=ada]")
        await expect(row).to_contain_text("idle")
        await hive.ask("POST", "/v1/harness/status", {"text": HOSTILE}, agent="ada")
        await expect(row).to_contain_text("“<img src=x onerror=pwned=1>")
        await hive.ask("POST", "/v1/messages", {"to": "ada", "body": "work"})
        await expect(row).to_contain_text("working")
        await expect(row.locator("[data-label=Unread]")).to_have_text("1")

        await expect(field).to_have_value("I am typ")
        await field.press("End")
        await field.type("ing")
        await field.press("Enter")
        await expect(need).to_have_count(0)
        await expect(page).to_have_title(re.compile(r"^Overview "))
        assert (await hive.ask("GET", "/v1/questions?view=all"))["questions"][0]["answer"] == "I am typing"

        # The keyboard stays where it is when the row is another one.
        more = row.get_by_label("More actions on ada")
        await more.focus()
        await hive.ask("POST", "/v1/harness/status", {"text": "changed"}, agent="ada")
        await expect(row).to_contain_text("“changed”")
        await expect(more).to_be_focused()
        await page.get_by_role("button", name="Stop ada").click()
        await expect(row).to_contain_text("stopped")
        await expect(page.get_by_role("button", name="Start ada")).to_be_enabled()
        assert page.url == f"{web.origin}/"


async def test_palette_finds_and_acts_by_keyboard(browser: Browser, hive: Daemon, web: ServedDashboard) -> None:
    """The palette opens with a slash or Ctrl-K, filters, opens pages and acts; a slash in a field is text."""
    await hive.spawn("pam", start=False)
    async with opened(browser, web) as page:
        await page.get_by_role("searchbox", name="Text").press("/")
        await expect(page.get_by_role("searchbox", name="Text")).to_have_value("/")
        await page.locator("h1").click()
        await page.keyboard.press("/")
        field = page.get_by_role("combobox", name="Find agents, pages and actions")
        found = page.get_by_role("listbox", name="Found")
        await expect(field).to_be_focused()
        await field.type("pam")
        await expect(found.get_by_role("option")).to_have_count(4)
        await expect(found.get_by_role("option", selected=True)).to_contain_text("pam")
        await page.keyboard.press("Escape")
        await expect(field).to_be_hidden()
        await page.keyboard.press("Control+k")
        await field.type("start pam")
        await page.keyboard.press("Enter")
        await hive.agent_until("pam", lambda agent: agent["lifecycle"] == "running")
        await expect(field).to_be_hidden()
        await page.keyboard.press("/")
        await field.type("limits pam")
        await expect(found.get_by_role("option", selected=True)).to_contain_text("Limits of pam")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{web.origin}/agents/pam/limits")


async def test_an_agent_is_made_and_destroyed(browser: Browser, hive: Daemon, web: ServedDashboard) -> None:
    """The form shows the files before the agent is made; its end needs its name; what is kept can be purged."""
    async with opened(browser, web) as page:
        await page.get_by_role("link", name="New agent").click()
        await page.get_by_role("textbox", name="Name", exact=True).fill("zoe")
        await page.get_by_label("Backend").select_option("scripted")
        await page.get_by_label("Role").fill(HOSTILE.replace("\x1b", "").replace("\u202e", ""))
        await page.get_by_role("button", name="Show its files").click()
        await expect(page.get_by_label("prompt.md")).to_contain_text("<img src=x onerror=pwned=1>")
        await page.get_by_role("button", name="Make the agent").click()
        await expect(page.get_by_role("status").filter(has_text="made")).to_contain_text("its harness idle")
        await page.goto(f"{web.origin}/")
        row = page.locator("tr[data-agent=zoe]")
        await row.get_by_label("More actions on zoe").press("Enter")
        await row.get_by_role("link", name="Destroy…").click()
        await page.get_by_role("textbox", name="Type zoe to confirm").fill("zo")
        await page.get_by_role("button", name="Destroy zoe").click()  # The browser itself refuses.
        assert "zoe" in await hive.agents()
        await page.get_by_role("textbox", name="Type zoe to confirm").fill("zoe")
        await page.get_by_role("button", name="Destroy zoe").click()
        await expect(page.get_by_role("heading", name="Agents")).to_be_visible()
        await expect(row).to_have_count(0)
        await page.get_by_role("link", name="Kept state").click()
        await page.get_by_role("row", name="zoe").get_by_role("link", name="Purge…").click()
        await page.get_by_role("textbox", name="Type zoe to confirm").fill("zoe")
        await page.get_by_role("button", name="Purge zoe").click()
        await expect(page.get_by_role("row", name="zoe")).to_have_count(0)


async def test_overview_is_usable_on_a_phone_and_by_reading(
    browser: Browser, hive: Daemon, web: ServedDashboard
) -> None:
    """At 390 px nothing is wider than the window, and every agent has its name, state and labelled controls."""
    async with opened(browser, web, width=390) as page:
        await expect(page.locator("tr[data-agent=ann]")).to_be_visible()
        for path in ("/", "/new-agent", "/kept", "/agents/ann/limits", "/agents/ann/destroy"):
            await page.goto(f"{web.origin}{path}")
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390, path
        await page.goto(f"{web.origin}/?q=ann")
        shown = await page.locator("main").aria_snapshot()
        for line in (
            'heading "Overview" [level=1]',
            'heading "Needs you" [level=2]',
            'search "Filter agents"',
            'rowheader "ann"',
            'button "Start ann"',
        ):
            assert line in shown, line
