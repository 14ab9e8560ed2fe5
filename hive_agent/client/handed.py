"""The listening sockets that a harness hands to the daemon, for the gateways to the world.

Those of a sealed agent listen on its own loopback. Whoever accepts there is outside; no process of the agent passes
anything on. The network of another agent is the host's: there the relay is on any port of its loopback, and asks for a
key of this harness, because others can connect, too.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hive_agent.client.lent import readable
from hive_agent.environment import AgentEnvironment, RelayAddress

log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_BACKLOG = 1_024
_NO_KEY = "hyperhive"
"""The placeholder for programs that insist on a key where the relay asks for none."""
_ATTEMPTS = 100
"""To listen on a port that was free just now."""
_AGAIN_SECONDS = 1.0
"""Between attempts to reach the door of a daemon that is being restarted."""


class OwnListener(NamedTuple):
    """A listener of this harness. `key` is what callers have to bring if others can connect; else empty."""

    socket: socket.socket
    key: str = ""


@asynccontextmanager
async def handing_over(environment: AgentEnvironment) -> AsyncIterator[AgentEnvironment]:
    """Listen for the gateways that the agent has, and keep their sockets with the daemon.

    Yields the environment with the address of the relay. A port that a program of the agent has taken is logged: the
    harness goes on without that gateway.
    """
    ports = json.loads(environment.variables.get("HIVE_AGENT_GATEWAYS") or "{}")
    if not ports:
        yield environment
        return
    with ExitStack() as stack:
        listeners: dict[str, OwnListener] = {}
        for purpose, port in ports.items():
            try:
                made = stack.enter_context(listen(port))
            except OSError as error:
                log.error("no %s: cannot listen on port %d: %s", purpose, port, os.strerror(error.errno or 0))
            else:
                listeners[purpose] = OwnListener(made, "" if port else os.urandom(32).hex())
        handing = asyncio.create_task(keep_handing_over(environment.run / "world.sock", listeners))
        try:
            yield replace(environment, relay=_relay_address(listeners.get("relay")))
        finally:
            handing.cancel()
            await asyncio.gather(handing, return_exceptions=True)


def _relay_address(listener: OwnListener | None) -> RelayAddress | None:
    if listener is None:
        return None
    return RelayAddress(listener.socket.getsockname()[1], listener.key or _NO_KEY)


def listen(port: int) -> socket.socket:
    """Listen on a port of the loopback, beside a listener of an earlier harness; 0 is any. Raises OSError."""
    if port:
        # The gateway has the last harness's listener until it gets this one.
        return _listen(port, beside=True)
    for _ in range(_ATTEMPTS):
        # A port that the kernel has chosen is free again when somebody shuts the listener down (shutdown(2)), for
        # whoever wants to hear the key of the next call; one that was asked for by its number is not.
        with socket.socket() as probe:
            probe.bind((_LOOPBACK, 0))
            free = probe.getsockname()[1]
        try:
            return _listen(free, beside=False)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _listen(port: int, *, beside: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if beside:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((_LOOPBACK, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


async def keep_handing_over(door: Path, listeners: Mapping[str, OwnListener]) -> None:
    """Hand listeners, by their purposes, to the daemon and to each one after it. Runs until it is cancelled."""
    while True:
        try:
            await _hand_over(door, listeners)
        except OSError as error:
            log.debug("nothing was handed over: %s", error)
            await asyncio.sleep(_AGAIN_SECONDS)


async def _hand_over(door: Path, listeners: Mapping[str, OwnListener]) -> None:
    """Hand the listeners over, and wait for the end of the connection. Raises OSError without a daemon.

    A daemon that hangs up may have lost one: somebody in the agent has shut it down.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.setblocking(False)
        connection.connect(str(door))
        for purpose, (listener, key) in listeners.items():
            if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listener.listen(_BACKLOG)
            # They are few and small: the buffer of the connection takes them all.
            packet = {"purpose": purpose, "key": key}
            socket.send_fds(connection, [json.dumps(packet).encode()], [listener.fileno()])
        await readable(connection)
        if connection.recv(1):
            raise OSError("the daemon answers where it should not")
    await asyncio.sleep(_AGAIN_SECONDS)
