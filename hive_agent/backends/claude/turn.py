"""One prompt to a running Claude Code: what it does is waited for, stopped if asked, and cleared away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Set
from typing import Any

from hive_agent.backends.claude.events import Reading
from hive_agent.backends.claude.process import ClaudeProcess, More
from hive_agent.processes import reap_adopted

log = logging.getLogger(__name__)

_SILENCE_SECONDS = 660.0
"""How long nothing at all may come while no tool runs. Claude Code itself gives up on its API after 600 s."""
_INTERRUPT_SECONDS = 5.0
"""How long it may take to stop by itself."""


class Silence(Exception):
    """The program says nothing any more; the text is for people."""


class TurnRun:
    """A turn's way through the process. Afterwards nothing runs that the turn has started, but MCP servers do."""

    def __init__(self, process: ClaudeProcess, reading: Reading) -> None:
        self._process = process
        self._reading = reading
        self._servers: Set[int] | None = None
        self.last_words = ""
        """What the program said when it ended in the middle of the turn."""

    @property
    def can_go_on(self) -> bool:
        """Whether the process can take another turn."""
        return self._reading.result is not None and not self._process.gone.is_set() and not self._reading.server_missing

    async def run(self, words: str, number: str, more: More | None) -> None:
        """Give the prompt and wait for its end. Raises Silence."""
        process, reading = self._process, self._reading
        if process.used:
            self._servers = process.program.started()
        process.used = True
        process.heed = self._take
        process.more = None if more is None else self._adding(more)
        process.say(words, number)
        while not reading.over and not process.gone.is_set():
            process.moved.clear()
            try:
                async with asyncio.timeout(None if reading.working else _SILENCE_SECONDS + reading.waits):
                    await process.moved.wait()
            except TimeoutError:
                raise Silence(f"Claude Code said nothing for {_SILENCE_SECONDS:g} s") from None
        if not reading.over:
            self.last_words = await process.last_words()
        await self._clear()

    async def interrupt(self) -> bool:
        """Have the turn stopped; whether the process can take another one."""
        process, reading = self._process, self._reading
        if not reading.heard:
            return False  # It may not have begun yet, and would begin after all.
        process.more = None
        process.interrupt()
        try:
            async with asyncio.timeout(_INTERRUPT_SECONDS):
                while not reading.over and not process.gone.is_set():
                    process.moved.clear()
                    await process.moved.wait()
        except TimeoutError:
            log.warning("Claude Code did not stop its turn in time, and is ended")
        await self._clear()
        return self.can_go_on

    def _take(self, event: Mapping[str, Any]) -> None:
        self._reading.feed(event)
        if self._servers is None and self._reading.session is not None:
            # It has started its MCP servers and not asked the model yet: what comes from here on is the turn's.
            self._servers = self._process.program.started()

    def _adding(self, more: More) -> More:
        async def adding() -> str:
            try:
                words = await more()
            except BaseException:
                self._reading.missed()  # Some may have been taken by then.
                raise
            if words:
                self._reading.added()
            return words

        return adding

    async def _clear(self) -> None:
        self._process.heed = self._process.more = None
        await self._process.program.end_started(self._servers or frozenset())
        reap_adopted()
