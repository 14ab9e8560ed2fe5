"""Somebody who watches an agent's page, on its socket: signed in with a ticket of the daemon's."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.helpers.real_daemon import Daemon

Event = tuple[str, dict[str, Any]]


class PageClient:
    """`seen` are all events so far: their kind, and their data."""

    def __init__(self, session: aiohttp.ClientSession, key: str) -> None:
        self._session = session
        self._key = key
        self._events: AsyncGenerator[Event] | None = None
        self.seen: list[Event] = []

    async def until(self, wanted: Callable[[str, dict[str, Any]], bool]) -> dict[str, Any]:
        """Read events until there is one that is wanted; its data."""
        if self._events is None:
            self._events = self._read()
        async for kind, data in self._events:
            self.seen.append((kind, data))
            if wanted(kind, data):
                return data
        raise AssertionError(f"the stream ended after {self.seen}")

    async def get(self, path: str) -> Any:
        async with self._session.get(f"http://page/api/{path}", headers={"X-Hive-Key": self._key}) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def post(self, path: str, body: dict[str, Any]) -> None:
        headers = {"X-Hive-Key": self._key}
        async with self._session.post(f"http://page/api/{path}", json=body, headers=headers) as response:
            assert response.status == 200, await response.text()

    async def close(self) -> None:
        """Close the event stream; otherwise its connection is reported as unclosed in whichever test runs then."""
        if self._events is not None:
            await self._events.aclose()

    async def _read(self) -> AsyncGenerator[Event]:
        async with self._session.get("http://page/events", params={"key": self._key}) as response:
            assert response.status == 200, await response.text()
            kind = ""
            async for line in response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)


@asynccontextmanager
async def watching(daemon: Daemon, agent: str) -> AsyncIterator[PageClient]:
    """Sign in to the page of an agent whose harness runs."""
    ticket = (await daemon.ask("POST", f"/v1/agents/{agent}/page-tickets"))["ticket"]
    connector = aiohttp.UnixConnector(str(daemon.view_socket(agent)))
    jar = aiohttp.CookieJar(unsafe=True)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=jar, timeout=timeout, read_bufsize=2**20
    ) as session:
        async with session.post("http://page/enter", json={"ticket": ticket}) as response:
            assert response.status == 200, await response.text()
            key = (await response.json())["key"]
        client = PageClient(session, key)
        try:
            yield client
        finally:
            await client.close()
