"""Where the page listens: a unix socket in the agent's directory, and a port of the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

MOST_CONNECTIONS = 512
"""At one listener; more are hung up on."""
_BACKLOG = 128


@asynccontextmanager
async def on_socket(runner: web.BaseRunner, path: Path) -> AsyncIterator[None]:
    """Listen on a unix socket of mode 0600; one that an earlier harness left is replaced. Raises OSError."""
    bound = _bound(path)
    own = _identity(path)
    try:
        server = await asyncio.get_running_loop().create_unix_server(_limited(runner), sock=bound, backlog=_BACKLOG)
    except BaseException:
        bound.close()
        raise
    try:
        yield
    finally:
        server.close()
        _remove(path, own)


@asynccontextmanager
async def on_port(runner: web.BaseRunner, port: int) -> AsyncIterator[None]:
    """Listen on a port of 127.0.0.1. Raises OSError if it is taken."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_limited(runner), "127.0.0.1", port, backlog=_BACKLOG)
    try:
        yield
    finally:
        server.close()


def _bound(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(f"{path} is there and no socket; remove it")
            path.unlink()
        # Before it is bound, so that the file never has another mode.
        os.fchmod(bound.fileno(), 0o600)
        bound.bind(str(path))
    except BaseException:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _remove(path: Path, own: tuple[int, int]) -> None:
    """Remove the socket, but not that of a harness which has taken over."""
    with contextlib.suppress(OSError):
        if _identity(path) == own:
            path.unlink()


class _HangUp(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _limited(runner: web.BaseRunner) -> Callable[[], asyncio.Protocol]:
    server = runner.server
    assert server is not None
    return lambda: server() if len(server.connections) < MOST_CONNECTIONS else _HangUp()
