"""Windows of one browser: many at once, a daemon that restarts, a session that ends."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.helpers.dashboard import dashboard
from tests.integration.api.conftest import small_hive
from tests.integration.dashboard.test_people_pages import PASSWORD
from tests.unit.core.cli.run_cli import Program

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

WINDOWS = 20


async def test_twenty_windows_of_a_person(browser: Browser) -> None:
    """A link signs a person in, twenty windows follow the hive at once, say when it is away, and end together."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with small_hive(Path(home)) as hive, dashboard(hive.run_dir / "dashboard.sock", role=None) as web:
            link = (await Program(hive.host_socket).run("operator", "setup")).out.strip()
            context = await browser.new_context()
            context.set_default_timeout(30_000)
            faults: list[str] = []
            context.on("weberror", lambda error: faults.append(str(error.error)))
            context.on("console", lambda said: faults.append(said.text) if "Security Policy" in said.text else None)
            first = await context.new_page()
            await first.goto(f"{web.origin}/setup#{link.partition('#')[2]}")
            await expect(first).to_have_url(f"{web.origin}/setup")
            await first.get_by_label("Name").fill("ada")
            await first.get_by_label("Password", exact=True).fill(PASSWORD)
            await first.get_by_label("Password again").fill(PASSWORD)
            await first.get_by_role("button", name="Set the password").click()
            await expect(first).to_have_url(f"{web.origin}/")
            pages = [first, *[await context.new_page() for _ in range(WINDOWS - 1)]]
            for page in pages[1:]:
                await page.goto(f"{web.origin}/")
            await hive.ask("POST", "/v1/agents", {"name": "new"})
            for page in pages:
                await expect(page.get_by_role("link", name="new", exact=True).first).to_be_visible()
            await hive.terminate()
            await expect(pages[-1].locator("#connection")).to_contain_text("does not answer")
            await hive.start()
            for page in (pages[0], pages[-1]):
                await expect(page.locator("#connection")).to_be_hidden()
            cookie = [each for each in await context.cookies() if each["name"] == web.cookie]
            assert (cookie[0]["httpOnly"], cookie[0]["sameSite"]) == (True, "Lax")
            await first.goto(f"{web.origin}/settings")
            await expect(first.get_by_role("heading", name="Settings of ada")).to_be_visible()
            await first.get_by_role("button", name="Sign out").click()
            for page in pages:
                await expect(page).to_have_url(f"{web.origin}/sign-in")
            assert faults == []
            await context.close()
