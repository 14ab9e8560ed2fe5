"""Simulated crashes of the daemon at a crash point of the gate; nothing has an effect after them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

from hive_core.gate.records import transitions
from tests.unit.core.gate.gate_hive import PATIENCE, GateHive


class Died(BaseException):
    """The daemon was killed here."""


class SimulatedCrash:
    """Kills at the crash point number `at`, counted from 1; `reached` are the names of the points up to that one."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.reached: list[str] = []
        self.dead = False
        self._happened = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Let crash points count."""
        with patch.object(transitions, "crash_point", self._step):
            yield

    def born(self, gate_hive: GateHive) -> None:
        """Let nothing that outlives the daemon happen after its death."""
        self.guard(gate_hive.database, "submit", "write")
        self.guard(gate_hive.runtime, "activate")

    def guard(self, part: object, *methods: str) -> None:
        """Let these methods of a part have no effect after the death."""
        for name in methods:
            setattr(part, name, self._unless_dead(getattr(part, name)))

    async def during(self, action: Awaitable[object]) -> None:
        """Wait until the action is done or the daemon dies."""
        doing = asyncio.ensure_future(action)
        if self.dead:
            doing.cancel()
        dying = asyncio.create_task(self._happened.wait())
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait({doing, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if not self.dead:
            await doing
            return
        doing.cancel()
        with suppress(asyncio.CancelledError, Died):
            await doing

    def die(self) -> None:
        """Let nothing have an effect from now on."""
        self.dead = True
        self._loop.call_soon_threadsafe(self._happened.set)

    def _step(self, name: str) -> None:
        with self._lock:  # Threads reach crash points, too.
            if not self.dead:
                self.reached.append(name)
                if len(self.reached) == self.at:
                    self.die()
            if self.dead:
                raise Died(name)

    def _unless_dead(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            if self.dead:
                raise Died
            return function(*arguments, **options)

        return guarded
