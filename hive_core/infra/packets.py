"""Connections between the daemon and its gateways: packets on a unix socket, each with at most one open descriptor.

A packet is read as it was sent, whole and with its descriptor (SOCK_SEQPACKET, unix(7)); a stream would need framing,
and could deliver a descriptor apart from the words that say what it is.
"""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

MOST_BYTES = 64 * 1024
"""Of one packet. The kernel's default buffer of a socket takes three of them (SO_SNDBUF, socket(7))."""
_DESCRIPTOR = array.array("i").itemsize
_ROOM_FOR_DESCRIPTORS = 8
"""More than one is refused; with room for some, the kernel hands them over, and they are closed here."""

_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF)


class PacketRefused(Exception):
    """A packet that breaks the rules: too long, or with more than one descriptor. It was discarded."""


class PacketConnection:
    """One end of a connection; one task may receive while others send."""

    def __init__(self, connection: socket.socket) -> None:
        """Take a connected SOCK_SEQPACKET socket over."""
        connection.setblocking(False)
        self._socket = connection
        self._sending = asyncio.Lock()
        self._waiting: set[asyncio.Future[None]] = set()

    async def receive(self) -> tuple[bytes, int | None]:
        """Return the next packet and its descriptor, which the caller has to close.

        Raises ConnectionError at the end of the connection, and `PacketRefused`, after which it goes on.
        """
        while True:
            try:
                return self._read()
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._until(loop.add_reader, loop.remove_reader)

    async def send(self, data: bytes, descriptor: int | None = None) -> None:
        """Send a packet of 1 to `MOST_BYTES` bytes, and wait while the other end has not read enough.

        The descriptor stays open here. Raises ValueError for another size, ConnectionError if the other end is gone,
        and OSError if the kernel has no room, for example for one more descriptor on its way (ETOOMANYREFS, unix(7)).
        """
        if not 0 < len(data) <= MOST_BYTES:
            raise ValueError(f"a packet has 1 to {MOST_BYTES} bytes, not {len(data)}")
        attached = [] if descriptor is None else [_rights(descriptor)]
        async with self._sending:
            while True:
                try:
                    self._socket.sendmsg([data], attached, socket.MSG_NOSIGNAL)
                    return
                except BlockingIOError:
                    loop = asyncio.get_running_loop()
                    await self._until(loop.add_writer, loop.remove_writer)
                except OSError as error:
                    if error.errno not in _GONE:
                        raise
                    raise ConnectionResetError(f"the other end is gone: {os.strerror(error.errno or 0)}") from None

    def close(self) -> None:
        """End the connection; tasks that receive or send here get a ConnectionError."""
        if self._socket.fileno() >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._socket.close()
            for happened in self._waiting:
                if not happened.done():
                    happened.set_exception(ConnectionResetError("the connection was closed here"))

    def _read(self) -> tuple[bytes, int | None]:
        room = socket.CMSG_SPACE(_ROOM_FOR_DESCRIPTORS * _DESCRIPTOR)
        try:
            data, attached, flags, _ = self._socket.recvmsg(MOST_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ConnectionResetError(f"the connection has ended: {os.strerror(error.errno or 0)}") from None
        found = _descriptors(attached)
        if not data:
            _close(found)
            raise ConnectionResetError("the other end has closed the connection")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(found) > 1:
            _close(found)
            raise PacketRefused(f"a packet has at most {MOST_BYTES} bytes and one descriptor")
        return data, found[0] if found else None

    async def _until(
        self, add: Callable[[socket.socket, Callable[[], None]], None], remove: Callable[[socket.socket], bool]
    ) -> None:
        """Wait for an event of the socket."""
        happened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(happened)
        add(self._socket, lambda: None if happened.done() else happened.set_result(None))
        try:
            await happened
        finally:
            self._waiting.discard(happened)
            if self._socket.fileno() >= 0:
                remove(self._socket)


def connect(path: Path) -> PacketConnection:
    """Connect to the daemon's end, at once. Raises OSError, BlockingIOError if too many wait there already."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.setblocking(False)
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return PacketConnection(connection)


def _rights(descriptor: int) -> tuple[int, int, array.array[int]]:
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor])


def _descriptors(attached: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in attached:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
