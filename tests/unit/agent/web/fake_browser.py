"""A fake of a browser on the page: it keeps the session's two halves, and sends what a browser would."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.unit.agent.web.fakes import TICKET, Served


@dataclass(frozen=True)
class Answered:
    """An answer, all of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class FakeBrowser:
    """Requests to one page. `cookie` and `key` are what it was given."""

    def __init__(self, session: aiohttp.ClientSession, base: str, origin: str) -> None:
        self._session = session
        self.base = base
        self.headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
        self.cookie = ""
        self.key = ""

    async def enter(self, ticket: str = TICKET) -> Answered:
        """Exchange a ticket; keeps what comes of it."""
        answer = await self.ask("POST", "/enter", {"ticket": ticket})
        if answer.status == 200:
            self.key = answer.json()["key"]
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return answer

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answered:
        """One request, its answer read. An empty header is left out."""
        sent = {**self.headers, "Cookie": self.cookie, "X-Hive-Key": self.key, **headers}
        sent = {name: value for name, value in sent.items() if value}
        if body is not None and not isinstance(body, (bytes, AsyncIterator)):
            sent["Content-Type"] = "application/json"
            body = json.dumps(body).encode()
        content = io.BytesIO(body) if isinstance(body, bytes) else body
        async with self._session.request(method, self.base + path, headers=sent, data=content) as answer:
            return Answered(answer.status, answer.headers, await answer.read())

    async def code(self, method: str, path: str, body: Any = None, **headers: str) -> str:
        """The code of the refusal; empty if there is none."""
        answer = await self.ask(method, path, body, **headers)
        if answer.status < 400:
            return ""
        error: dict[str, str] = answer.json()["error"]
        assert set(error) == {"code", "message", "hint"}
        return error["code"]


@asynccontextmanager
async def browsing(page: Served, *, enter: bool = True, socket: bool = False) -> AsyncIterator[FakeBrowser]:
    """A browser at the page's port, or at its socket as the dashboard is; with a session if it may `enter`."""
    connector = aiohttp.UnixConnector(path=str(page.socket)) if socket else aiohttp.TCPConnector()
    base = "http://hive.example" if socket else page.url
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=20)
    ) as session:
        browser = FakeBrowser(session, base, base)
        if enter:
            page.hive.tickets.add(TICKET)
            assert (await browser.enter()).status == 200
        yield browser


def stream_request(browser: FakeBrowser, query: str = "", **headers: str) -> bytes:
    """What opens the live flow."""
    lines = {"Host": "hive.example", "Cookie": browser.cookie, **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"GET /events?key={browser.key}{query} HTTP/1.1\r\n{head}\r\n".encode()


@asynccontextmanager
async def streaming(
    page: Served, browser: FakeBrowser, query: str = "", **headers: str
) -> AsyncIterator[asyncio.StreamReader]:
    """The live flow on a connection of its own to the socket; the answer's head is read."""
    reader, writer = await asyncio.open_unix_connection(str(page.socket), limit=2**24)
    try:
        writer.write(stream_request(browser, query, **headers))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and b"text/event-stream" in head, head
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
