"""A gateway's connection to the daemon, which is made again whenever it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from hive_core.infra.packets import PacketConnection, connect

log = structlog.get_logger(__name__)

_SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


async def follow_daemon(path: Path, serve: Callable[[PacketConnection], Awaitable[None]]) -> None:
    """Connect to the daemon's socket and serve the connection, again and again, until this is cancelled.

    `serve` returns by a ConnectionError when the connection has ended. Meanwhile what the daemon has told goes on to
    hold.
    """
    told, pause = "", _SHORTEST_PAUSE
    while True:
        try:
            connection = connect(path)
        except OSError as error:
            if str(error) != told:
                told = str(error)
                log.info("the daemon is not reached, it is tried again", socket=str(path), error=told)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            continue
        told, pause = "", _SHORTEST_PAUSE
        log.info("connected to the daemon")
        try:
            await serve(connection)
        except ConnectionError as error:
            log.info("the daemon is away, what it has told goes on to hold", error=str(error))
        finally:
            connection.close()
        await asyncio.sleep(pause)
