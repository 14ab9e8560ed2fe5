"""Where the page listens: a unix socket in the agent's directory, and a port of the loopback that the daemon lends.

What answers there is made when the first caller comes, who waits for it: most of the time nobody looks at an agent's
page, and what serves it would be a good part of the memory of a harness that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hive_agent.infra import log as harness_log
from hive_agent.web import lent

if TYPE_CHECKING:  # loading it takes megabytes
    from aiohttp import web

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 512
"""At one listener; more are hung up on."""
_BACKLOG = 128
_AGAIN_SECONDS = 10.0
"""Between requests for a port that the daemon has not got."""

OpenRunner = Callable[[], "Awaitable[web.BaseRunner]"]
"""Makes what answers; it is cleaned up by the listener."""


@asynccontextmanager
async def on_socket(open_runner: OpenRunner, path: Path) -> AsyncIterator[None]:
    """Listen on a unix socket of mode 0600; one that an earlier harness left is replaced. Raises OSError."""
    bound = _bound(path)
    own = _identity(path)
    try:
        async with _listening(bound, open_runner):
            yield
    finally:
        _remove(path, own)


@asynccontextmanager
async def on_port(open_runner: OpenRunner, place: Path, port: int) -> AsyncIterator[None]:
    """Accept on a port of 127.0.0.1 with the socket that the daemon lends at `place`; until it does, ask again."""
    async with AsyncExitStack() as stack:
        if not await _accepting(stack, open_runner, place, port, level=logging.WARNING):
            asking = asyncio.create_task(_ask_again(stack, open_runner, place, port))
            stack.push_async_callback(_cancel, asking)
        yield


async def _ask_again(stack: AsyncExitStack, open_runner: OpenRunner, place: Path, port: int) -> None:
    while True:
        await asyncio.sleep(_AGAIN_SECONDS)
        if await _accepting(stack, open_runner, place, port, level=logging.DEBUG):
            return


async def _accepting(stack: AsyncExitStack, open_runner: OpenRunner, place: Path, port: int, *, level: int) -> bool:
    """Whether the port was lent; then it is listened on until the stack is left."""
    try:
        bound = await lent.fetch(place, port)
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        log.log(level, "no page on port %d: %s", port, why)
        return False
    await stack.enter_async_context(_listening(bound, open_runner))
    log.info("the page is at http://127.0.0.1:%d", port)
    return True


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _listening(bound: socket.socket, open_runner: OpenRunner) -> AsyncIterator[None]:
    with bound:
        bound.listen(_BACKLOG)
        answering = asyncio.create_task(_answer(bound, open_runner))
        try:
            yield
        finally:
            await _cancel(answering)


async def _answer(bound: socket.socket, open_runner: OpenRunner) -> None:
    """Until cancelled. What cannot be opened is logged, and callers are hung up on."""
    try:
        await lent.readable(bound)
        runner = await open_runner()
    except Exception as error:
        log.error("the page cannot be opened: %s", harness_log.where(error))
        bound.close()
        return
    loop = asyncio.get_running_loop()
    listen = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
    try:
        server = await listen(_limited(runner), sock=bound, backlog=_BACKLOG)
        try:
            await loop.create_future()
        finally:
            server.close()
    finally:
        await runner.cleanup()


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
