"""Requests to the daemon, each with the credential of the person for whom it is made."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp

from hive_core.errors import HiveError

_PATIENCE = aiohttp.ClientTimeout(total=90)
_NO_END = aiohttp.ClientTimeout(total=None, sock_connect=10)
_LONGEST_LINE = 4 * 1024 * 1024


class HiveEvent(NamedTuple):
    """One event of a stream of the daemon's. `data` is JSON."""

    id: str
    kind: str
    data: Any


class DaemonRefusal(HiveError):
    """An error that the daemon answered with: its code, message, hint and status."""

    retry_after = ""
    """The seconds after which to try again, if the daemon names them."""


class HiveUnreachable(HiveError):
    """The daemon does not listen, or hung up."""

    def __init__(self) -> None:
        hint = "it may be starting; on the host, see its log"
        super().__init__("no_daemon", "the daemon of this hive does not answer", hint=hint, status=503)


class HiveConnection:
    """Connections to the daemon's socket for the dashboard."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._client: aiohttp.ClientSession | None = None

    def client(self, credential: str | None, address: str = "") -> HiveClient:
        """Return the client of a person, or of a visitor without a credential. `address` is the browser's."""
        headers = {"Hive-Client-Address": address} if address else {}
        if credential is not None:
            headers["Authorization"] = f"Bearer {credential}"
        return HiveClient(self, headers)

    def open(self) -> aiohttp.ClientSession:
        """Return the connections, which are made when they are used for the first time."""
        if self._client is None:
            connector = aiohttp.UnixConnector(str(self._socket), limit=0)
            # A cookie of the daemon's would belong to all who are signed in.
            jar = aiohttp.DummyCookieJar()
            self._client = aiohttp.ClientSession("http://hive", connector=connector, cookie_jar=jar, timeout=_PATIENCE)
        return self._client

    async def close(self) -> None:
        """Close every connection."""
        if self._client is not None:
            await self._client.close()


class HiveClient:
    """The daemon as one person may use it. Every method raises DaemonRefusal and HiveUnreachable."""

    def __init__(self, connection: HiveConnection, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self._headers = headers

    async def get(self, path: str, query: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Send a GET and return the answer.

        `path` is made by `path_of`; fields of `query` that are None are left out.
        """
        async with self._asked("GET", path, query=query) as response:
            answer: dict[str, Any] = json.loads(await response.read())
            return answer

    async def post(self, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Send a POST with a JSON body and return the answer."""
        async with self._asked("POST", path, body=body or {}) as response:
            answer: dict[str, Any] = json.loads(await response.read())
            return answer

    async def text(self, path: str, query: Mapping[str, object] | None = None) -> str:
        """Send a GET whose answer is text, such as a diff or a log, and return it."""
        async with self._asked("GET", path, query=query) as response:
            return (await response.read()).decode(errors="replace")

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, object] | None = None, after: str = ""
    ) -> AsyncIterator[AsyncIterator[HiveEvent]]:
        """Open a stream of events, from behind the event `after` if that is given."""
        headers = {"Last-Event-ID": after} if after else {}
        async with self._asked("GET", path, query=query, headers=headers, limits=_NO_END) as response:
            yield _events(response)

    @asynccontextmanager
    async def _asked(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        limits: aiohttp.ClientTimeout = _PATIENCE,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        parameters = {name: _as_text(value) for name, value in (query or {}).items() if value is not None}
        try:
            async with self._connection.open().request(
                method,
                path,
                params=parameters,
                json=body,
                headers={**self._headers, **(headers or {})},
                timeout=limits,
                read_bufsize=_LONGEST_LINE,
                allow_redirects=False,
            ) as response:
                if response.status >= 400:
                    refusal = _refusal(response.status, await response.read())
                    refusal.retry_after = response.headers.get("Retry-After", "")
                    raise refusal
                yield response
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise HiveUnreachable from None


def path_of(*segments: str | int) -> str:
    """Return a path of the daemon's API: `path_of("agents", name)`. Each segment is quoted whole.

    Raises `not_found` for a segment that would change the path.
    """
    for segment in segments:
        if segment in ("", ".", ".."):
            raise HiveError("not_found", "there is nothing at this address", status=404)
    return "/v1/" + "/".join(quote(str(segment), safe="") for segment in segments)


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refusal(status: int, content: bytes) -> DaemonRefusal:
    try:
        error = json.loads(content)["error"]
        return DaemonRefusal(error["code"], error["message"], hint=error.get("hint", ""), status=status)
    except (ValueError, KeyError, TypeError):
        return DaemonRefusal("internal", "the daemon gave an answer that is no answer of a hive", status=502)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[HiveEvent]:
    """Yield the events of a stream (HTML standard, "Server-sent events"), until it ends."""
    identity, kind, data = "", "message", ""
    async for raw in response.content:
        line = raw.decode(errors="replace").rstrip("\r\n")
        if not line:
            if data:
                yield HiveEvent(identity, kind, json.loads(data))
            kind, data = "message", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            identity = value
        elif field == "event":
            kind = value
        elif field == "data":
            data += value
