"""One channel of SSH and one connection to the agent, which hold each other back."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

from hive_core.protocol.access.frames import MOST_BYTES


class Link(asyncio.Protocol):
    """The connection of a channel. When one of both sides takes no more bytes, the other one is not read."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self._transport: asyncio.Transport | None = None
        self._sender: _Sender | None = None

    async def attach(self, connection: socket.socket) -> None:
        """Begin to read the connection, and to accept what is sent."""
        # Before the reader, which owns the connection, and may end it at once.
        self._sender = _Sender(connection.dup(), self.channel)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=connection)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send bytes to the agent; they are dropped when it takes no more."""
        if self._sender is not None:
            self._sender.write(data)

    def write_eof(self) -> None:
        """Tell the agent that no more bytes follow."""
        if self._sender is not None:
            self._sender.end()

    def pause_reading(self) -> None:
        """Read no more from the agent, because the channel takes no more."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the agent again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, *, sending: bool = False) -> None:
        """End the connection, which ends what runs there; with `sending` what is not sent yet still is."""
        if self._sender is not None:
            self._sender.close(sending=sending)
        if self._transport is not None:
            self._transport.abort()


class _Sender:
    """The writing of a connection, apart from its reading.

    A transport of asyncio reads no more after a failed write. What the agent has sent before it closed its end, the
    exit code of a program for example, would be lost.
    """

    def __init__(self, connection: socket.socket, channel: Any) -> None:
        self._connection = connection
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._ends = False
        self._closes = False
        self._closed = False

    def write(self, data: bytes) -> None:
        if self._closed:
            return
        if not self._waiting:
            data = data[self._send(data) :]
            if not data or self._closed:
                return
            self._loop.add_writer(self._connection, self._flush)
        self._waiting += data
        if len(self._waiting) >= MOST_BYTES:
            self._channel.pause_reading()

    def end(self) -> None:
        self._ends = True
        if not self._waiting and not self._closed:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)

    def close(self, *, sending: bool = False) -> None:
        if sending and self._waiting:
            self._closes = True
        elif not self._closed:
            self._closed = True
            self._loop.remove_writer(self._connection)
            self._connection.close()

    def _flush(self) -> None:
        del self._waiting[: self._send(self._waiting)]
        if self._closed:
            self._channel.resume_reading()
        elif not self._waiting:
            self._loop.remove_writer(self._connection)
            self._channel.resume_reading()
            if self._ends:
                self.end()
            if self._closes:
                self.close()

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._connection.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return len(data)
