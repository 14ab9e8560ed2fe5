"""The review of a proposal in a browser: its files, a denial with comments on lines, and an approval by keyboard."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser.browser import Faults
from tests.helpers.dashboard import ServedDashboard, dashboard
from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon, Json, running

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

HOSTILE = "</td></table><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'> \\x1b[31m"
FILES = {f"lib{number:02}.nix": f"# {HOSTILE}\n" + "# line\n" * 60 for number in range(20)}


class Hive:
    """A daemon with an agent that proposes, and a dashboard in front of it."""

    def __init__(self, daemon: Daemon, web: ServedDashboard) -> None:
        self.daemon = daemon
        self.web = web

    async def propose(self, files: dict[str, str], note: str) -> Json:
        """Propose files as the agent, on top of what is deployed, and wait until they are built."""
        place = self.daemon.state_dir / "agents/ann/config"
        git(place, "fetch", "--quiet", str(self.daemon.state_dir / "applied/ann.git"), "main")
        git(place, "reset", "--quiet", "--hard", "FETCH_HEAD")
        for name, text in files.items():
            (place / name).write_text(text)
        git(place, "add", "--all")
        git(place, "commit", "--quiet", "--message", "a change")
        body = {"commit": git(place, "rev-parse", "HEAD"), "note": note}
        made = await self.daemon.ask("POST", "/v1/proposals", body, agent="ann")
        return await self.until(made["number"], "built")

    async def until(self, number: int, *states: str) -> Json:
        """Wait until a proposal is in one of the states."""
        path = f"/v1/proposals/ann/{number}"
        found = await self.daemon.ask("GET", path)
        async with asyncio.timeout(30):
            while found["state"] not in states:
                found = await self.daemon.ask("GET", f"{path}?unlike={found['state']}&wait_seconds=20")
        return found

    @asynccontextmanager
    async def page(
        self, browser: Browser, path: str, width: int = 1280, scheme: Literal["light", "dark"] = "light"
    ) -> AsyncIterator[Page]:
        """A window on a page, in which no script fails and nothing breaks the policy of its content."""
        faults = Faults(self.web.origin)
        context = await browser.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme)
        await self.web.sign_in(context)
        page = await context.new_page()
        page.on("console", faults.console)
        page.on("pageerror", lambda error: faults.found.append(f"a mistake in a script: {error}"))
        page.on("request", faults.request)
        try:
            await page.goto(self.web.origin + path)
            yield page
            assert await page.evaluate("window.pwned") is None, "a text was run as a script"
            assert faults.found == []
        finally:
            await context.close()


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def hive() -> AsyncIterator[Hive]:
    """A hive with a manager that is stopped, and an agent."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with running(Daemon(Path(home))) as daemon, dashboard(daemon.host_socket) as web:
            for name in ("hm1nd", "ann"):
                await daemon.ask("POST", "/v1/agents", {"name": name, "start": False})
            yield Hive(daemon, web)


async def test_a_review(browser: Browser, hive: Hive) -> None:
    """A person moves through hostile files by keyboard, denies with comments on lines, and approves the next one."""
    await hive.propose({**FILES, "prompt.md": "Bake.\n"}, f"because {HOSTILE}")
    async with hive.page(browser, "/decisions") as page:
        await expect(page.get_by_role("heading", name="Waits for others")).to_be_visible()
        await page.get_by_role("link", name="ann/1", exact=True).click()
        await expect(page.get_by_role("heading", name="21 changed files")).to_be_visible()
        files = page.locator(".file")
        await expect(files).to_have_count(21)

        # The next file comes to the top, and is loaded when it comes into view.
        for _ in range(21):
            await page.keyboard.press("j")
        last = files.last
        await expect(last).to_have_class("file current")
        await expect(last.locator("summary").first).to_be_focused()
        await expect(last.locator("td.text").first).to_have_text(f"# {HOSTILE}")
        await page.keyboard.press("k")
        await expect(files.nth(19)).to_have_class("file current")

        # A comment is kept over another look at the same commit.
        await last.locator("button.no").nth(1).click()
        await page.get_by_label("Comment on line 2 of lib19.nix").fill("why 60 times?")
        await expect(page.locator("#drafts")).to_contain_text("1 comment on lines")
        await page.get_by_role("link", name="Side by side").click()
        await expect(page.locator("table.diff.split").first).to_be_visible()
        await expect(page.locator("#drafts")).to_contain_text("1 comment on lines")
        await page.evaluate("document.activeElement.blur()")
        await page.keyboard.press("d")
        note = page.get_by_label("Reason, which the proposer gets")
        await expect(note).to_be_focused()
        await note.fill("Not like this.")
        await page.get_by_role("button", name="Deny").click()
        await expect(page.locator(".review .state").first).to_have_text("denied")
        denied = await hive.daemon.ask("GET", "/v1/proposals/ann/1")
        assert denied["outcome"] == "Not like this.\n\nlib19.nix:2: why 60 times?"

        await hive.propose({"prompt.md": "Bake bread.\n"}, "shorter")
        await page.goto(f"{hive.web.origin}/decisions/agents/ann/2")
        await expect(page.locator("#drafts")).to_be_empty()
        await page.keyboard.press("a")
        await expect(page.get_by_role("button", name="Approve")).to_be_focused()
        await page.keyboard.press("Enter")
        await hive.until(2, "deployed")
        # Without another load of the page.
        await expect(page.locator(".review .state").first).to_have_text("deployed")
        await expect(page.get_by_role("link", name="Deployments of ann")).to_be_visible()

        await page.get_by_role("link", name="Deployments of ann").click()
        await page.get_by_role("link", name="What changed since").click()
        await page.get_by_label("Reason").fill("back")
        await page.get_by_role("button", name="Roll ann back to deployment 0").click()
        await expect(page.locator(".review .state").first).to_have_text("deployed")
        assert (await hive.until(3, "deployed"))["kind"] == "rollback"


async def test_pages_fit(browser: Browser, hive: Hive) -> None:
    """On a phone no page is wider than its window; each has one heading, and names for all that can be used."""
    async with hive.page(browser, "/decisions", 390, "dark") as page:
        for path in (
            *("/decisions", "/decisions/agents/ann/1", "/decisions/agents/ann/1?view=split", "/decisions/access"),
            *("/agents/ann/history", "/agents/ann/history/0", "/agents/ann/edit", "/repositories"),
        ):
            await page.goto(hive.web.origin + path)
            await expect(page.get_by_role("heading", level=1)).to_have_count(1)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390, path
            unnamed = "[...document.querySelectorAll('main :is(button, a, textarea, select, summary)')]"
            unnamed += ".filter(e => !(e.textContent.trim() || e.labels?.length || e.ariaLabel)).length"
            assert await page.evaluate(unnamed) == 0, path
