"""The dashboard in the test's own process, on a port of the loopback, in front of a real daemon or a fake one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import aiohttp
from aiohttp import web
from playwright.async_api import BrowserContext

from hive_core.services.dashboard.application import Dashboard, ask_who, build
from hive_core.services.dashboard.boundary import CSRF_HEADER, Boundary, csrf_token
from hive_core.services.dashboard.hive_client import HiveClient, HiveConnection
from hive_core.services.dashboard.visit import Visitor

SESSION = "hs_of_the_test"


class Shown(NamedTuple):
    """An answer of the dashboard."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class ServedDashboard:
    """A dashboard that is served. `session` is the cookie with which requests are made."""

    origin: str
    port: int
    client: aiohttp.ClientSession
    cookie: str
    session: str = SESSION

    async def get(self, path: str, **headers: str) -> Shown:
        """Ask for a page, as a browser does that shows it to a person."""
        return await self.ask("GET", path, headers={"Accept": "text/html", **headers})

    async def post(self, path: str, fields: Mapping[str, str] | None = None, **headers: str) -> Shown:
        """Send a form with the session's CSRF token."""
        token = {CSRF_HEADER: csrf_token(self.session)}
        origin = {"Origin": self.origin, "Accept": "text/html"}
        return await self.ask("POST", path, data=dict(fields or {"": ""}), headers={**origin, **token, **headers})

    async def ask(self, method: str, path: str, *, headers: Mapping[str, str], data: Any = None) -> Shown:
        """Send any request."""
        sent = {"Host": self.origin.partition("://")[2], **headers}
        if self.session:
            sent.setdefault("Cookie", f"{self.cookie}={self.session}")
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.client.request(method, url, headers=sent, data=data, allow_redirects=False) as response:
            return Shown(response.status, response.headers.copy(), await response.text())

    async def sign_in(self, context: BrowserContext) -> None:
        """Give a browser the session."""
        await context.add_cookies(
            [{"name": self.cookie, "value": self.session, "url": self.origin, "httpOnly": True, "sameSite": "Lax"}]
        )


@asynccontextmanager
async def dashboard(
    daemon: Path, role: Literal["viewer", "operator", "admin"] | None = "admin", name: str = "operator"
) -> AsyncIterator[ServedDashboard]:
    """Serve a dashboard that is a client of the socket `daemon`.

    With a `role`, whoever has a session counts as a person with it, as on host.sock, where there are no sessions; with
    None the daemon is asked.
    """

    async def identify(hive: HiveClient) -> Visitor:
        return Visitor(name, role) if role is not None else await ask_who(hive)

    probe = web.ServerRunner(web.Server(_nothing))
    await probe.setup()
    site = web.TCPSite(probe, "127.0.0.1", 0)
    await site.start()
    port: int = probe.addresses[0][1]
    await probe.cleanup()
    boundary = Boundary(f"http://hive.localhost:{port}")
    runner = web.AppRunner(build(Dashboard(boundary, HiveConnection(daemon), identify)), handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
            yield ServedDashboard(boundary.origin, port, client, boundary.cookie)
    finally:
        await runner.cleanup()


async def _nothing(_: web.BaseRequest) -> web.StreamResponse:
    return web.Response()
