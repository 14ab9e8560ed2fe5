"""Logs of the work on proposals: of builds and of checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from hive_core.infra.concurrency.threads import LOGS
from hive_core.protocol import LogsAnswer, LogsQuery
from hive_core.runtimes.log_file import LogFile


class ProposalLogs:
    """Keeps the logs of builds and checks. Readers can wait for lines of those in progress."""

    def __init__(self, path: Callable[[str, int], Path]) -> None:
        """`path` returns the file for a proposal of a subject."""
        self._path = path
        self._open: dict[tuple[str, int], LogFile] = {}

    @asynccontextmanager
    async def writing(self, subject: str, number: int) -> AsyncIterator[Callable[[str], None]]:
        """Give a function that appends a line, until the block ends. It must be called on the daemon's thread."""
        log = LogFile(self._path(subject, number))
        await LOGS.run(log.open)
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        writer = asyncio.create_task(_write(log, lines))
        self._open[subject, number] = log
        try:
            yield lines.put_nowait
        finally:
            lines.put_nowait(None)
            try:
                await asyncio.shield(writer)
            finally:
                del self._open[subject, number]
                log.close()

    async def read(self, subject: str, number: int, query: LogsQuery) -> LogsAnswer:
        """Return lines of a proposal's log. A wait for more lines ends with the work on it."""
        log = self._open.get((subject, number))
        if log is not None:
            lines, cursor = await log.read(query.lines, query.cursor, query.wait_seconds)
            return LogsAnswer(lines=lines, cursor=cursor)
        log = LogFile(self._path(subject, number))
        try:
            lines, cursor = await log.read(query.lines, query.cursor, 0)
        except FileNotFoundError:
            return LogsAnswer(lines=[], cursor=query.cursor or "")
        finally:
            log.close()
        return LogsAnswer(lines=lines, cursor=cursor)

    async def tail(self, subject: str, number: int, lines: int) -> str:
        """Return the last lines of a log whose work has ended."""
        return "\n".join((await self.read(subject, number, LogsQuery(lines=lines))).lines)


async def _write(log: LogFile, lines: asyncio.Queue[str | None]) -> None:
    while (line := await lines.get()) is not None:
        await log.append(line.replace("\n", "\n  ").encode(errors="replace") + b"\n")
    await log.finish()
