"""The listening socket of the page's port, which the daemon holds and lends to the harness on `page.sock`."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

_SECONDS = 5.0
_DESCRIPTOR = struct.Struct("i")


async def fetch(place: Path, port: int) -> socket.socket:
    """A duplicate of what listens on the port of 127.0.0.1. Raises OSError if the daemon does not lend it."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        async with asyncio.timeout(_SECONDS):  # Its TimeoutError is an OSError.
            await loop.sock_connect(asking, str(place))
            await readable(asking)
        # Programs that the harness starts must not have it; socket.recv_fds ignores the flag for that (Python 3.11).
        _, found, _, _ = asking.recvmsg(1, socket.CMSG_LEN(_DESCRIPTOR.size), socket.MSG_CMSG_CLOEXEC)
    if not found:
        raise OSError("the daemon has not got it")
    lent = socket.socket(fileno=_DESCRIPTOR.unpack(found[0][2])[0])
    try:
        _check(lent, port)
        lent.setblocking(False)
    except BaseException:
        lent.close()
        raise
    return lent


async def readable(waiting: socket.socket) -> None:
    """Wait until there is something to read, or to accept."""
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    loop.add_reader(waiting, called.set)
    try:
        await called.wait()
    finally:
        loop.remove_reader(waiting)


def _check(lent: socket.socket, port: int) -> None:
    listens = lent.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    kind = lent.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    if not (lent.family == socket.AF_INET and kind == socket.SOCK_STREAM and listens):
        raise OSError("what the daemon lent does not listen for TCP")
    if lent.getsockname() != ("127.0.0.1", port):
        raise OSError(f"what the daemon lent listens on {lent.getsockname()}")
