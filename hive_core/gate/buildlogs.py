"""What builds say while they run, kept in a file per proposal and read while it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from hive_core.layout import Layout
from hive_core.protocol import LogsAnswer, LogsQuery
from hive_core.runtimes.log_file import LogFile


class BuildLogs:
    """The logs of all builds; those under way can be waited for."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._open: dict[tuple[str, int], LogFile] = {}

    @asynccontextmanager
    async def writing(self, agent: str, number: int) -> AsyncIterator[Callable[[str], None]]:
        """A function that adds a line, for as long as the build lasts. Called on the daemon's thread."""
        log = LogFile(self._layout.build_log(agent, number))
        await asyncio.to_thread(log.open)
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        writer = asyncio.create_task(_write(log, lines))
        self._open[agent, number] = log
        try:
            yield lines.put_nowait
        finally:
            lines.put_nowait(None)
            try:
                await asyncio.shield(writer)
            finally:
                del self._open[agent, number]
                log.close()

    async def read(self, agent: str, number: int, query: LogsQuery) -> LogsAnswer:
        """Lines of a build's log. Waiting for more ends with the build."""
        log = self._open.get((agent, number))
        if log is not None:
            lines, cursor = await log.read(query.lines, query.cursor, query.wait_seconds)
            return LogsAnswer(lines=lines, cursor=cursor)
        log = LogFile(self._layout.build_log(agent, number))
        try:
            lines, cursor = await log.read(query.lines, query.cursor, 0)
        except FileNotFoundError:
            return LogsAnswer(lines=[], cursor=query.cursor or "")
        finally:
            log.close()
        return LogsAnswer(lines=lines, cursor=cursor)

    async def tail(self, agent: str, number: int, lines: int) -> str:
        """The last lines of a build that has ended."""
        return "\n".join((await self.read(agent, number, LogsQuery(lines=lines))).lines)


async def _write(log: LogFile, lines: asyncio.Queue[str | None]) -> None:
    while (line := await lines.get()) is not None:
        await log.append(line.replace("\n", "\n  ").encode(errors="replace") + b"\n")
    await log.finish()
