"""A supervisor whose harnesses end when the test says so."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from hive_core.layout import Layout
from hive_core.runtimes.base import AgentSpec, UnitState
from hive_core.runtimes.launcher import HarnessProcess
from hive_core.runtimes.local.supervisor import Supervisor
from hive_core.runtimes.log_file import LogFile
from hive_core.runtimes.unit_state import BackOff, StateChanges
from tests.unit.core.runtimes.local.local_hive import make_spec, until


class FakeHarnessProcess:
    """A harness without a process. `polite` ones end when they are asked to."""

    def __init__(self, number: int, polite: bool) -> None:
        self.pid = number
        self.output, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._polite = polite

    def print(self, text: bytes) -> None:
        """Write on the standard output."""
        os.write(self._writer, text)

    def terminate(self) -> None:
        if self._polite:
            self.end.set_result("exit code 0")

    def kill(self) -> None:
        if not self.end.done():
            self.end.set_result("killed by SIGKILL")

    async def wait(self) -> str:
        return await asyncio.shield(self.end)

    def close(self) -> None:
        os.close(self.output)
        os.close(self._writer)


class Bench:
    """A supervisor, what it launched, and its changes. Errors in `errors` are raised by the next launches."""

    def __init__(self, place: Path, back_off: BackOff, *, polite: bool = True, stop_timeout: float = 30) -> None:
        self.spec = make_spec(Layout(place, place / "run"), "ada", {})
        self.children: list[FakeHarnessProcess] = []
        self.specs: list[AgentSpec] = []
        self.errors: list[Exception] = []
        self.log = LogFile(self.spec.log)
        self._polite = polite
        self._changes = StateChanges()
        self.changes = self._changes.watch()
        self.supervisor = Supervisor(
            self.spec, self._launch, self.log, self._changes.publish, stop_timeout=stop_timeout, back_off=back_off
        )

    async def _launch(self, spec: AgentSpec) -> HarnessProcess:
        self.specs.append(spec)
        if self.errors:
            raise self.errors.pop(0)
        self.children.append(FakeHarnessProcess(len(self.children) + 1, self._polite))
        return self.children[-1]

    async def start(self) -> None:
        await self.supervisor.start(self.spec)

    async def until(self, lifecycle: str) -> UnitState:
        return await until(self.changes, lifecycle)  # type: ignore[arg-type]

    async def close(self) -> list[str]:
        """Stop; the lifecycles that were not read yet."""
        await self.supervisor.stop()
        self.log.close()
        self._changes.close()
        return [state.lifecycle async for state in self.changes]

    async def close_without_reading(self) -> None:
        """Stop, for a test that has somebody else read the changes."""
        await self.supervisor.stop()
        self.log.close()
        self._changes.close()
