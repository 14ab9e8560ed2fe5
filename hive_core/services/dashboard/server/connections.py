"""Connections of browsers, with limits of their number and of the time that a request may take to arrive."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import cast

from aiohttp import web

_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain\r\nContent-Length: 40\r\nConnection: close\r\n\r\n"
    b"the request did not arrive in good time\n"
)
_LOCAL = ("127.", "::1")


@dataclass(frozen=True)
class ConnectionLimits:
    """The limits of connections; the seconds are those that a peer may take."""

    connections: int = 1_024
    from_one_address: int = 64
    """From one address of another machine: a proxy and the browsers of this machine share theirs."""
    head_seconds: float = 15.0
    """For the head of a request, from its first byte or the beginning of the connection on."""
    unread_seconds: float = 30.0
    """In which it has to read something, if the kernel has no more room."""


class Connections:
    """Every connection of a server."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self.server: Callable[[], asyncio.Protocol] = asyncio.Protocol
        """Makes the protocol of a connection that is taken up."""
        self._open: dict[Hashable, _Connection] = {}
        self._of_address: Counter[str] = Counter()
        self.refused = 0
        """Connections that were too many."""

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _Connection(self, self.server())

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    def add(self, connection: _Connection, address: str) -> bool:
        """Take up a connection, if need be in the place of the oldest one without a request."""
        if self._of_address[address] >= self.limits.from_one_address and not _is_shared(address):
            self.refused += 1
            return False
        if len(self._open) >= self.limits.connections:
            idle = next((each for each in self._open.values() if not each.is_busy), None)
            self.refused += 1
            if idle is None:
                return False
            idle.abort()
        self._open[connection.protocol] = connection
        self._of_address[address] += 1
        return True

    def remove(self, connection: _Connection, address: str) -> None:
        """Forget a connection that has ended."""
        if self._open.pop(connection.protocol, None) is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def begin(self, request: web.BaseRequest) -> None:
        """Note that the head of a request has arrived."""
        if (connection := self._open.get(request.protocol)) is not None:
            connection.begin()

    def end(self, request: web.BaseRequest) -> None:
        """Note that a request is answered."""
        if (connection := self._open.get(request.protocol)) is not None:
            connection.is_busy = False


def _is_shared(address: str) -> bool:
    return not address or address.startswith(_LOCAL)


class _Connection(asyncio.Protocol):
    """A connection before the server's own protocol of it."""

    def __init__(self, connections: Connections, protocol: asyncio.Protocol) -> None:
        self._connections = connections
        self.protocol = protocol
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._is_taken = False
        self._late: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self.is_busy = False
        """True while a request is carried out."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if isinstance(peer, tuple) else ""
        if not self._connections.add(self, self._address):
            self._transport.abort()
            return
        self._is_taken = True
        self._await_head()
        self.protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._late, self._unread):
            if timer is not None:
                timer.cancel()
        self._connections.remove(self, self._address)
        if self._is_taken:
            self.protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._is_taken:
            return
        if not self.is_busy and self._late is None:
            self._await_head()
        self.protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self.protocol.eof_received()

    def pause_writing(self) -> None:
        self._unread = asyncio.get_running_loop().call_later(self._connections.limits.unread_seconds, self.abort)
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
        self.protocol.resume_writing()

    def begin(self) -> None:
        """Note that the head of a request has arrived."""
        self.is_busy = True
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def abort(self) -> None:
        """Close the connection at once."""
        self._connections.remove(self, self._address)
        if self._transport is not None:
            self._transport.abort()

    def _await_head(self) -> None:
        self._late = asyncio.get_running_loop().call_later(self._connections.limits.head_seconds, self._end_late)

    def _end_late(self) -> None:
        if self._transport is not None:
            self._transport.write(_LATE)
            self._transport.close()
