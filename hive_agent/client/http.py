"""HTTP requests on a unix socket, over connections that are kept open.

On h11 and asyncio's streams: with aiohttp a harness would take 15 MB more, of which it uses the least part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h11

_CONNECT_SECONDS = 5.0
_CHUNK = 65_536
_MOST_IDLE = 8
"""Connections that are kept; a harness with its tools seldom makes more requests at a time."""


class HttpAnswer(NamedTuple):
    """The answer to one request, read to its end."""

    status: int
    content: bytes


class HttpFailure(OSError):
    """The server does not listen, hung up, or answered with what is no HTTP."""


@dataclass(frozen=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    state: h11.Connection

    async def ask(self, request: h11.Request, body: bytes) -> HttpAnswer:
        """Send one request and read its answer. Raises OSError and h11.ProtocolError."""
        message = [self.state.send(request), self.state.send(h11.Data(body)), self.state.send(h11.EndOfMessage())]
        self.writer.write(b"".join(part for part in message if part))
        with suppress(ConnectionError):  # A server that refuses a large body stops reading; its answer says why.
            await self.writer.drain()
        status, pieces = 0, []
        while True:
            event = self.state.next_event()
            if event is h11.NEED_DATA:
                self.state.receive_data(await self.reader.read(_CHUNK))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return HttpAnswer(status, b"".join(pieces))
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("the server has hung up")

    def is_fresh(self) -> bool:
        """Return whether another request can be sent, as far as is known."""
        return not (self.reader.at_eof() or self.writer.is_closing() or self.reader.exception())


class HttpClient:
    """Requests on one unix socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._idle: list[_Connection] = []

    async def request(self, method: str, target: str, body: bytes | None = None) -> HttpAnswer:
        """Send a request, with JSON as its body if there is one, and return the answer.

        A connection that was kept may have been closed by the server meanwhile; the request is then sent once more on
        a new one, so it must be safe to repeat. Raises HttpFailure.
        """
        headers = [("Host", "hive"), ("Content-Length", str(len(body or b"")))]
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        request = h11.Request(method=method, target=target, headers=headers)
        while (kept := self._take()) is not None:
            with suppress(OSError, h11.ProtocolError):
                return await self._ask(kept, request, body or b"")
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                streams = await asyncio.open_unix_connection(str(self._socket))
            return await self._ask(_Connection(*streams, h11.Connection(h11.CLIENT)), request, body or b"")
        except h11.ProtocolError as error:
            raise HttpFailure(f"the answer is no HTTP: {error}") from None
        except (OSError, TimeoutError) as error:
            raise HttpFailure(getattr(error, "strerror", None) or str(error) or "timed out") from None

    def close(self) -> None:
        """Close the connections that are kept."""
        _close(self._idle)
        self._idle.clear()

    def _take(self) -> _Connection | None:
        while self._idle:
            kept = self._idle.pop()
            if kept.is_fresh():
                return kept
            _close([kept])
        return None

    async def _ask(self, connection: _Connection, request: h11.Request, body: bytes) -> HttpAnswer:
        kept = False
        try:
            answer = await connection.ask(request, body)
            if connection.state.our_state is h11.DONE and connection.state.their_state is h11.DONE:
                connection.state.start_next_cycle()
                if len(self._idle) < _MOST_IDLE:
                    self._idle.append(connection)
                    kept = True
            return answer
        finally:
            if not kept:
                _close([connection])


def _close(connections: Iterable[_Connection]) -> None:
    for connection in connections:
        connection.writer.close()
