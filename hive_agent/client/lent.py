"""The listening sockets that the daemon makes and lends to the agent: for its page, and for sessions.

Each is received at a *door*: a unix socket in the agent's run directory on which the daemon sends a duplicate.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from hive_agent.infra.lent_listener import receive_listener

_SECONDS = 5.0


async def fetch_port(door: Path, port: int) -> socket.socket:
    """Return a duplicate of what listens on the port of 127.0.0.1. Raises OSError if the daemon does not lend it."""
    with _request() as request:
        return await _fetch(request, door, socket.AF_INET, ("127.0.0.1", port))


async def fetch_unix(door: Path, agent: str | None) -> tuple[socket.socket, socket.socket]:
    """Return a duplicate of the agent's view or access socket, and the connection to the door.

    The daemon ends the connection when its socket is another one. The caller must close both. `agent` is the agent's
    name if the harness knows it already. Raises OSError if the daemon does not lend it.
    """
    request = _request()
    try:
        return await _fetch(request, door, socket.AF_UNIX, None if agent is None else f"{agent}.sock"), request
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
    return receive_listener(request, family, address)


async def readable(*waiting: socket.socket) -> None:
    """Wait until one of the sockets has something to read, or to accept."""
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    for each in waiting:
        loop.add_reader(each, called.set)
    try:
        await called.wait()
    finally:
        for each in waiting:
            loop.remove_reader(each)
