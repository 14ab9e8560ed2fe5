"""The listening sockets of a sealed agent that its harness hands to the daemon, for the gateways to the world.

They listen on the agent's own loopback. Whoever accepts there is outside; no process of the agent passes anything on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from hive_agent.client.lent import readable
from hive_agent.environment import AgentEnvironment

log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_BACKLOG = 1_024
_AGAIN_SECONDS = 1.0
"""Between attempts to reach the door of a daemon that is being restarted."""


@asynccontextmanager
async def handing_over(environment: AgentEnvironment) -> AsyncIterator[None]:
    """Listen for the gateways that the agent has, and keep their sockets with the daemon.

    A port that a program of the agent has taken is logged: the harness goes on without that gateway.
    """
    ports = json.loads(environment.variables.get("HIVE_AGENT_GATEWAYS") or "{}")
    if not ports:
        yield
        return
    with ExitStack() as stack:
        listeners = {}
        for purpose, port in ports.items():
            try:
                listeners[purpose] = stack.enter_context(listen(port))
            except OSError as error:
                log.error("no %s: cannot listen on port %d: %s", purpose, port, os.strerror(error.errno or 0))
        handing = asyncio.create_task(keep_handing_over(environment.run / "world.sock", listeners))
        try:
            yield
        finally:
            handing.cancel()
            await asyncio.gather(handing, return_exceptions=True)


def listen(port: int) -> socket.socket:
    """Listen on a port of the agent's loopback, beside a listener of an earlier harness. Raises OSError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # The gateway has the last harness's listener until it gets this one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((_LOOPBACK, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


async def keep_handing_over(door: Path, listeners: Mapping[str, socket.socket]) -> None:
    """Hand listeners, by their purposes, to the daemon and to each one after it. Runs until it is cancelled."""
    while True:
        try:
            await _hand_over(door, listeners)
        except OSError as error:
            log.debug("nothing was handed over: %s", error)
            await asyncio.sleep(_AGAIN_SECONDS)


async def _hand_over(door: Path, listeners: Mapping[str, socket.socket]) -> None:
    """Hand the listeners over, and wait for the end of the connection. Raises OSError without a daemon.

    A daemon that hangs up may have lost one: somebody in the agent has shut it down.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.setblocking(False)
        connection.connect(str(door))
        for purpose, listener in listeners.items():
            if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listener.listen(_BACKLOG)
            # They are few and small: the buffer of the connection takes them all.
            socket.send_fds(connection, [json.dumps({"purpose": purpose}).encode()], [listener.fileno()])
        await readable(connection)
        if connection.recv(1):
            raise OSError("the daemon answers where it should not")
    await asyncio.sleep(_AGAIN_SECONDS)
