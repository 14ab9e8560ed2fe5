"""The listening sockets of the agent's page, which the daemon makes and lends to the harness.

Each is received at a *door*: a unix socket in the agent's run directory on which the daemon sends a duplicate.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

_SECONDS = 5.0
_DESCRIPTOR = struct.Struct("i")


async def fetch_port(door: Path, port: int) -> socket.socket:
    """Return a duplicate of what listens on the port of 127.0.0.1. Raises OSError if the daemon does not lend it."""
    with _request() as request:
        return await _fetch(request, door, socket.AF_INET, ("127.0.0.1", port))


async def fetch_view(door: Path, agent: str) -> tuple[socket.socket, socket.socket]:
    """Return a duplicate of the agent's view socket, and the connection to the door.

    The daemon ends the connection when its socket is another one. The caller must close both. Raises OSError if the
    daemon does not lend it.
    """
    request = _request()
    try:
        return await _fetch(request, door, socket.AF_UNIX, f"{agent}.sock"), request
    except BaseException:
        request.close()
        raise


def _request() -> socket.socket:
    request = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    request.setblocking(False)
    return request


async def _fetch(request: socket.socket, door: Path, family: socket.AddressFamily, address: object) -> socket.socket:
    async with asyncio.timeout(_SECONDS):  # Its TimeoutError is an OSError.
        await asyncio.get_running_loop().sock_connect(request, str(door))
        await readable(request)
    # Programs that the harness starts must not have it; socket.recv_fds ignores the flag for that (Python 3.11).
    _, found, _, _ = request.recvmsg(1, socket.CMSG_LEN(_DESCRIPTOR.size), socket.MSG_CMSG_CLOEXEC)
    if not found:
        raise OSError("the daemon has not got it")
    lent = socket.socket(fileno=_DESCRIPTOR.unpack(found[0][2])[0])
    try:
        _check(lent, family, address)
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


def _check(lent: socket.socket, family: socket.AddressFamily, address: object) -> None:
    listens = lent.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    kind = lent.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    if not (lent.family == family and kind == socket.SOCK_STREAM and listens):
        raise OSError(f"what the daemon lent is no listening {family.name} socket")
    found: object = lent.getsockname()
    # The directory of a unix socket is the host's, which the agent does not see.
    if (Path(found).name if isinstance(found, str) else found) != address:
        raise OSError(f"what the daemon lent listens on {found}")
