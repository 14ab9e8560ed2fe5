"""HTTP/1.1 over a unix socket with next to no cost of its own, so that what is measured is the daemon."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any


def post(path: str, content: object) -> bytes:
    """A request with a JSON body, as it goes over the wire."""
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: hive\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def get(path: str) -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: hive\r\n\r\n".encode()


class RawConnection(asyncio.Protocol):
    """One keep-alive connection with one request under way at a time. Understands answers with a Content-Length."""

    _transport: asyncio.Transport
    _answer: asyncio.Future[bytes] | None = None
    _buffer = b""

    @classmethod
    async def open(cls, socket: Path) -> RawConnection:
        _, connection = await asyncio.get_running_loop().create_unix_connection(cls, str(socket))
        return connection

    def request(self, request: bytes) -> asyncio.Future[bytes]:
        """Send; the future holds the body of the answer, or ConnectionError if it is not a 200."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    async def json(self, request: bytes) -> Any:
        """The answer's body, read."""
        return json.loads(await self.request(request))

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        start = self._buffer.index(b"Content-Length: ") + 16
        last = end + 4 + int(self._buffer[start : self._buffer.index(b"\r\n", start)])
        if len(self._buffer) < last:
            return
        answer, self._buffer = self._buffer, b""
        if answer.startswith(b"HTTP/1.1 200 "):
            self._settle(answer[end + 4 :])
        else:
            self._settle(ConnectionError(answer.decode(errors="replace")))

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle(exc or ConnectionError("the daemon has hung up"))

    def _settle(self, outcome: bytes | Exception) -> None:
        if self._answer is None or self._answer.done():
            return
        if isinstance(outcome, bytes):
            self._answer.set_result(outcome)
        else:
            self._answer.set_exception(outcome)
