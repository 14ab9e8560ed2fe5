"""The listeners of the page: the view socket and, of an unsealed agent, a port of the loopback; the daemon lends both.

What answers there is made when the first caller comes, who waits for it: most of the time nobody looks at an agent's
page, and what serves it would be a good part of the memory of a harness that waits.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hive_agent.client import lent
from hive_agent.infra import log as harness_log

if TYPE_CHECKING:  # loading it takes megabytes
    from aiohttp import web

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 512
"""At one listener; more are hung up on."""
_BACKLOG = 128
_AGAIN_SECONDS = 10.0
"""Between requests for a socket that the daemon has not got."""

OpenRunner = Callable[[], "Awaitable[web.BaseRunner]"]
"""Makes what answers; it is cleaned up by the listener."""


@asynccontextmanager
async def on_view(open_runner: OpenRunner, door: Path, agent: str) -> AsyncIterator[None]:
    """Accept on the view socket that the daemon lends at `door`.

    The harness may outlive the daemon, and the next daemon makes the socket and its door anew. So the socket is
    requested again when the daemon ends the connection to the door.
    """
    view = _View(open_runner, door, agent)
    # A daemon that answers has made the door already, so a first request that fails is not repeated.
    await view.update(level=logging.WARNING)
    updating = asyncio.create_task(view.keep_updated())
    try:
        yield
    finally:
        await _cancel(updating)
        await view.close()


class _View:
    """The view socket as the harness has it at present."""

    def __init__(self, open_runner: OpenRunner, door: Path, agent: str) -> None:
        self._open_runner = open_runner
        self._door = door
        self._agent = agent
        self._connection: socket.socket | None = None
        self._stack = AsyncExitStack()

    async def update(self, *, level: int = logging.DEBUG) -> None:
        """Request the socket; `level` is that of a failure."""
        try:
            bound, connection = await lent.fetch_unix(self._door, self._agent)
        except OSError as error:
            log.log(level, "no page on the view socket: %s", _reason(error))
            return
        await self.close()
        self._stack.enter_context(connection)
        self._connection = connection
        await self._stack.enter_async_context(_listening(bound, self._open_runner))

    async def keep_updated(self) -> None:
        """Request the socket again whenever the daemon's is another one, until cancelled."""
        while self._connection is not None:
            await lent.readable(self._connection)
            self._connection = None
            await self.update()
            while self._connection is None:
                await asyncio.sleep(_AGAIN_SECONDS)
                await self.update()

    async def close(self) -> None:
        """Stop accepting, and close all connections."""
        await self._stack.aclose()


@asynccontextmanager
async def on_port(open_runner: OpenRunner, door: Path, port: int) -> AsyncIterator[None]:
    """Accept on a port of 127.0.0.1 with the socket that the daemon lends at `door`; until it does, ask again."""
    async with AsyncExitStack() as stack:
        if not await _accepting(stack, open_runner, door, port, level=logging.WARNING):
            asking = asyncio.create_task(_ask_again(stack, open_runner, door, port))
            stack.push_async_callback(_cancel, asking)
        yield


async def _ask_again(stack: AsyncExitStack, open_runner: OpenRunner, door: Path, port: int) -> None:
    while True:
        await asyncio.sleep(_AGAIN_SECONDS)
        if await _accepting(stack, open_runner, door, port, level=logging.DEBUG):
            return


async def _accepting(stack: AsyncExitStack, open_runner: OpenRunner, door: Path, port: int, *, level: int) -> bool:
    """Whether the port was lent; then it is listened on until the stack is left."""
    try:
        bound = await lent.fetch_port(door, port)
    except OSError as error:
        log.log(level, "no page on port %d: %s", port, _reason(error))
        return False
    await stack.enter_async_context(_listening(bound, open_runner))
    log.info("the page is at http://127.0.0.1:%d", port)
    return True


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


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
        await _hang_up_on_all(bound)
        return
    loop = asyncio.get_running_loop()
    try:
        # Not create_unix_server, which since Python 3.13 removes the path of the socket, which is the daemon's.
        server = await loop.create_server(_limited(runner), sock=bound, backlog=_BACKLOG)
        try:
            await loop.create_future()
        finally:
            server.close()
    finally:
        await runner.cleanup()


async def _hang_up_on_all(bound: socket.socket) -> None:
    """Close the connection of every caller until cancelled: the daemon's duplicate would let them wait."""
    while True:
        with suppress(OSError):  # The caller has gone meanwhile.
            caller, _ = bound.accept()
            caller.close()
        await lent.readable(bound)


class _HangUp(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _limited(runner: web.BaseRunner) -> Callable[[], asyncio.Protocol]:
    server = runner.server
    assert server is not None
    return lambda: server() if len(server.connections) < MOST_CONNECTIONS else _HangUp()
