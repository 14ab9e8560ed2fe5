"""The dashboard in front of a real daemon."""

from __future__ import annotations

import re

from aiohttp import StreamReader

from tests.helpers.dashboard import dashboard
from tests.helpers.real_daemon import Daemon


async def test_overview_is_shown_to_those_who_are_signed_in(hive: Daemon) -> None:
    """The overview names the agents; without a session the browser is sent to the page to sign in."""
    async with dashboard(hive.host_socket) as web:
        shown = await web.get("/")
        assert shown.status == 200
        assert "ann" in shown.text
        assert shown.headers["Content-Security-Policy"].startswith("default-src 'none'")
        web.session = ""
        assert (await web.get("/")).headers["Location"] == "/sign-in"
        assert (await web.get("/live?part=overview.agents", **{"Sec-Fetch-Mode": "cors"})).status == 401
        assert (await web.get("/sign-in")).status == 200


async def test_live_parts_follow_the_hive(hive: Daemon) -> None:
    """A window gets each part at once, and anew when something happened."""
    async with dashboard(hive.host_socket) as web:
        url, cookie = f"http://127.0.0.1:{web.port}/live?part=overview.agents", f"{web.cookie}={web.session}"
        headers = {"Host": web.origin.partition("://")[2], "Cookie": cookie}
        async with web.client.get(url, headers=headers) as response:
            await _wait_for(response.content, "/agents/ann")
            await hive.ask("POST", "/v1/agents", {"name": "new"})
            await _wait_for(response.content, "/agents/new")


async def _wait_for(stream: StreamReader, wanted: str) -> None:
    while wanted not in (line := (await stream.readline()).decode()):
        assert line, "the stream has ended"


async def test_the_navigation_leads_somewhere(hive: Daemon) -> None:
    """Every address of the navigation is that of a page."""
    async with dashboard(hive.host_socket) as web:
        navigation = (await web.get("/")).text.partition("<nav")[2].partition("</nav>")[0]
        addresses = re.findall(r'href="([^"]+)"', navigation)
        assert len(addresses) >= 4
        for address in addresses:
            # On host.sock nobody has settings.
            assert (await web.get(address)).status in (200, 401), address
