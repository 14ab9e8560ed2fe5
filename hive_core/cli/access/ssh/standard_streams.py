"""Bytes between stdin and stdout, which are pipes, and a socket, which asyncssh needs."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

_CHUNK = 256 * 1024


def join_standard_streams(theirs: socket.socket) -> Callable[[], Awaitable[None]]:
    """Pass stdin on to the socket, and what comes from it to stdout; returns the wait for the rest of the output.

    The end of stdin ends the socket in that direction.
    """
    reading = threading.Thread(target=_copy_in, args=(0, theirs), name="stdin", daemon=True)
    writing = threading.Thread(target=_copy_out, args=(theirs, 1), name="stdout", daemon=True)
    reading.start()
    writing.start()

    async def wait() -> None:
        # Not the other one: stdin may stay open.
        await asyncio.get_running_loop().run_in_executor(None, writing.join, 5.0)

    return wait


def _copy_in(source: int, target: socket.socket) -> None:
    with suppress(OSError):
        while arrived := os.read(source, _CHUNK):
            target.sendall(arrived)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _copy_out(source: socket.socket, target: int) -> None:
    with suppress(OSError):
        while arrived := source.recv(_CHUNK):
            rest = memoryview(arrived)
            while rest:
                rest = rest[os.write(target, rest) :]
    with suppress(OSError):  # Nobody reads: the server learns it from its socket.
        source.shutdown(socket.SHUT_RDWR)
