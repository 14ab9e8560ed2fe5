"""The streams of windows: they end with the session and with the dashboard, and say so."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.helpers.dashboard import dashboard
from tests.helpers.real_daemon import Daemon
from tests.integration.dashboard.test_people_pages import PASSWORD, take_session
from tests.unit.core.cli.run_cli import Program


async def test_streams_end_with_session_and_dashboard(hive: Daemon) -> None:
    """A window hears when its session has ended and when the dashboard stops, and its stream ends then."""
    link = (await Program(hive.host_socket).run("operator", "setup")).out.strip()
    async with aiohttp.ClientSession() as client:
        async with dashboard(hive.run_dir / "dashboard.sock", role=None) as web:
            web.session = ""
            code = {"token": link.partition("#")[2], "name": "ada"}
            take_session(web, await web.post("/setup", {**code, "password": PASSWORD, "again": PASSWORD}))
            asking = {"Host": web.origin.partition("://")[2], "Cookie": f"{web.cookie}={web.session}"}
            url = f"http://127.0.0.1:{web.port}/live?part=overview.agents"
            async with client.get(url, headers=asking) as stream:
                while b"part" not in await stream.content.readline():
                    pass
                assert (await web.post("/sign-out")).status == 303
                assert b"event: ended\n" in await asyncio.wait_for(stream.content.read(), 20)
            assert (await web.ask("GET", "/live", headers={**asking, "Sec-Fetch-Mode": "cors"})).status == 401
            web.session = ""
            take_session(web, await web.post("/sign-in", {"name": "ada", "password": PASSWORD}))
            asking["Cookie"] = f"{web.cookie}={web.session}"
            last = await client.get(url, headers=asking)
            while b"part" not in await last.content.readline():
                pass
            reading = asyncio.create_task(last.content.read())
        assert b"is being restarted" in await asyncio.wait_for(reading, 20)
