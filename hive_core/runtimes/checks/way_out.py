"""The way of a check to the hive's proxy: a listener on the check's own loopback, on which the proxy accepts."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.packets import PacketConnection
from hive_core.infra.processes import Command, Process, spawn
from hive_core.runtimes.agent_environment import python_path

_SECONDS = 20.0
_WORDS = 500


@asynccontextmanager
async def listening(port: int, namespace: int | None = None) -> AsyncIterator[tuple[socket.socket, Path]]:
    """Listen on the loopback of a network namespace, or of a new one, which exists within the block.

    `namespace` is an open one. Yields the listener, which the caller has to close, and the path of the namespace.
    Raises OSError.
    """
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other:
        kept = [] if namespace is None else [namespace]
        line = [sys.executable, "-P", "-m", "hive_core.runtimes.checks.namespace_listener", str(port), *map(str, kept)]
        environment = {"PATH": os.defpath, **python_path()}
        try:
            process = spawn(Command(line, environment, Path("/"), keep_fds=kept, stdin=other.fileno()))
        except BaseException:
            mine.close()
            raise
    channel = PacketConnection(mine)
    try:
        yield await _receive(channel, process), Path(f"/proc/{process.pid}/ns/net")
    finally:
        channel.close()
        await shield_to_completion(process.end())


async def _receive(channel: PacketConnection, process: Process) -> socket.socket:
    try:
        async with asyncio.timeout(_SECONDS):
            _, descriptor = await channel.receive()
    except TimeoutError:
        raise OSError("no socket was made in time for the proxy of the check") from None
    except ConnectionError:
        said = b""
        with suppress(BlockingIOError):
            said = os.read(process.output, 64 * 1024)
        last = (said.decode(errors="replace").strip().splitlines() or ["it ended"])[-1]
        raise OSError(f"no socket can be made for the proxy of the check: {last[:_WORDS]}") from None
    if descriptor is None:
        raise OSError("no socket came for the proxy of the check")
    return socket.socket(fileno=descriptor)
