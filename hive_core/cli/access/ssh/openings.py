"""The sessions of an agent, opened in threads, because the client of the daemon waits."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hive_core.protocol.access.opening import Opening

_AT_ONCE = 8

Open = Callable[[Opening], socket.socket]
"""Opens a session and returns its connection, behind the answer of the agent's side. Raises Failure."""


class Openings:
    """Opens sessions in `agent`, several at a time."""

    def __init__(self, agent: str, open_session: Open) -> None:
        self.agent = agent
        self.host_names = frozenset({agent, f"hive-{agent}", f"{agent}.localhost"})
        """Names of the agent as a host, as ssh and browsers know them."""
        self._open = open_session
        self._threads = ThreadPoolExecutor(_AT_ONCE, "open-session")

    async def open(self, opening: Opening) -> socket.socket:
        """Open a session and return its connection, which does not block. Raises Failure.

        A caller that is cancelled meanwhile leaves nothing open.
        """
        loop = asyncio.get_running_loop()
        opened = loop.run_in_executor(self._threads, self._open, opening)
        try:
            connection = await asyncio.shield(opened)
        except asyncio.CancelledError:
            opened.add_done_callback(_close)
            raise
        connection.setblocking(False)
        return connection

    def close(self) -> None:
        """Wait for no more openings."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _close(opened: asyncio.Future[socket.socket]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()
