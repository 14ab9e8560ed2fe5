"""Hyperhive's flake as it is now: what builds are made with, and what the age of a closure is judged by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.recipe import Hyperhive

log = structlog.get_logger(__name__)

FRESH_SECONDS = 1_800.0
"""For so long what was found, or that nothing was, is good enough for whoever only asks how old something is."""


class Newest:
    """Looks for the first time when it is made, in the background; lives on the loop that it was made on."""

    def __init__(self, look: Callable[[], Awaitable[Hyperhive]], clock: Callable[[], float] = time.monotonic) -> None:
        """`look` finds the flake in a bounded time, or raises HiveError or OSError; `clock` gives seconds."""
        self.last: Hyperhive | None = None
        """What was found last."""
        self._look = look
        self._clock = clock
        self._tried = clock()
        self._closed = False
        self._looking = asyncio.create_task(self._try())

    async def known(self) -> Hyperhive | None:
        """As it was half an hour ago or later, waiting while it is being looked at; older if it cannot be had any more,
        None if it never could.
        """
        old = self._clock() - self._tried >= FRESH_SECONDS
        if old and self._looking.done() and not self._closed:
            self._looking = asyncio.create_task(self._try())
        await asyncio.wait([self._looking])
        return self.last

    async def now(self) -> Hyperhive:
        """As it is at this moment. Raises HiveError, also where the disk does not let it be looked at."""
        self._tried = self._clock()
        try:
            self.last = await self._look()
        except OSError as error:
            hint = "see whether the state directory's disk is full"
            raise HiveError("flake_unavailable", f"hyperhive's flake cannot be kept: {error}", hint=hint) from error
        return self.last

    async def close(self) -> None:
        """End what still goes on in the background, and look no more by itself."""
        self._closed = True
        self._looking.cancel()
        await asyncio.wait([self._looking])

    async def _try(self) -> None:
        try:
            await self.now()
        except HiveError as error:
            log.warning("hyperhive's flake is not known", error=error.message, hint=error.hint)
