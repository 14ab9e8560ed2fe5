"""The command `hive-ag3nt sftp`: a server of sftp on stdin and stdout, for agents without OpenSSH's.

It is asyncssh's server of files, without SSH around it. It runs in the agent and reaches what the agent reaches.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from contextlib import suppress
from typing import Any

_VERSION = 3
"""The version that OpenSSH speaks."""
_NOT_INSTALLED = 127


class _Streams:
    """Stdin and stdout as asyncssh expects the streams and the channel of a session."""

    def __init__(self, reader: asyncio.StreamReader, logger: Any) -> None:
        self.logger = logger
        self.channel = self
        self._reader = reader
        self._closed = False

    async def readexactly(self, length: int) -> bytes:
        return await self._reader.readexactly(length)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # It waits for the one client.
            try:
                rest = rest[os.write(1, rest) :]
            except BlockingIOError:  # The pipe of stdin, which asyncio reads, may be that of stdout, too.
                select.select([], [1], [])

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def get_extra_info(self, name: str, default: object = None) -> object:
        # OpenSSH names the arguments of a symbolic link in another order than the standard, and so do its clients.
        return "SSH-2.0-OpenSSH" if name == "client_version" else default


def serve_files() -> int:
    """Serve the client at stdin and stdout until it has gone; returns the exit code."""
    try:
        import asyncssh  # noqa: F401, PLC0415 - the extra `ssh`
    except ImportError:
        sys.stderr.write(
            "sftp and scp need OpenSSH's sftp-server in the agent, or asyncssh in hyperhive's Python (its extra ssh)\n"
        )
        return _NOT_INSTALLED
    with suppress(OSError):  # The client has gone.
        asyncio.run(_serve())
    return 0


async def _serve() -> None:
    from asyncssh.logging import logger  # noqa: PLC0415
    from asyncssh.sftp import SFTPServer, run_sftp_server  # noqa: PLC0415

    reader = asyncio.StreamReader(limit=1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    streams: Any = _Streams(reader, logger)
    await run_sftp_server(SFTPServer(streams), streams, streams, _VERSION)
