"""A fake of a backend: runs a function for each turn, and notes what else was asked of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from hive_agent.backends.base import Choice, Failed, Login, LoginFailed, NeedsLogin, Ok, Turn, TurnOutcome
from hive_agent.backends.transcript import Entry, EntrySink
from hive_agent.client.core_client import CoreClient
from hive_agent.harness import Harness
from hive_agent.interfaces import Controls
from hive_agent.turns.failure_policy import Reaction
from hive_core.protocol import Profile
from tests.unit.agent.fake_core_api import FakeCore

INSTANCE = "instance-1"
Run = Callable[[Turn], Awaitable[TurnOutcome]]


class FakeLogin:
    """Takes the code `right`, and neither accepts nor rejects `lost`."""

    url = "https://login.example/1"

    def __init__(self, backend: FakeBackend) -> None:
        self._backend = backend
        self.closed = False
        self.checking = asyncio.Event()

    async def submit_code(self, code: str) -> None:
        if code == "lost":
            self.checking.set()
            await asyncio.Event().wait()
        if code != "right":
            raise LoginFailed("that code is wrong")
        self._backend.credentials = True

    async def close(self) -> None:
        self.closed = True


class FakeBackend:
    """What happened is in the lists; `tell` is of the turn that runs."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.models: Sequence[str] = ["small", "large"]
        self.turns: list[list[int]] = []
        self.attempts: list[tuple[int, int]] = []
        self.asked: list[str] = []
        """`notes`, `check`, `compact`, `new_session` (also `with notes`), `return_to_session`, `choose MODEL EFFORT`,
        `close`."""
        self.emit: EntrySink = lambda _entry: None
        self.compacting: Callable[[], TurnOutcome] = Ok
        self.noting: Callable[[], TurnOutcome] = Ok
        self.checking: Callable[[], TurnOutcome] = Ok
        self.started = asyncio.Event()
        self.cancelled = 0
        self.closed = False
        self.credentials = True
        self.problem: Failed | NeedsLogin | None = None
        self.logins: list[FakeLogin] = []

    async def run(self, turn: Turn, emit: EntrySink) -> TurnOutcome:
        if turn.id == 0 and "checks whether" in turn.deliveries[0].body:
            self.asked.append("check")
            return self.checking()
        if turn.id == 0:
            self.asked.append("notes")
            return self.noting()
        self.turns.append([delivery.id for delivery in turn.deliveries])
        self.attempts.append((turn.id, turn.attempt))
        self.emit = emit
        self.started.set()
        try:
            return await self._run(turn)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def compact(self, emit: EntrySink, focus: str = "") -> TurnOutcome:
        self.asked.append("compact")
        return self.compacting()

    async def new_session(self, *, notes: bool = False) -> None:
        self.asked.append("new_session with notes" if notes else "new_session")

    async def return_to_session(self) -> None:
        self.asked.append("return_to_session")

    async def choose(self, choice: Choice) -> None:
        self.asked.append(f"choose {choice.model} {choice.effort}")

    async def log_in(self) -> Login:
        self.logins.append(FakeLogin(self))
        return self.logins[-1]

    async def logged_in(self) -> bool:
        return self.credentials

    async def find_problem(self) -> Failed | NeedsLogin | None:
        return self.problem

    @property
    def warm(self) -> bool:
        return False

    async def close(self) -> None:
        self.asked.append("close")
        self.closed = True


def silent(_entry: Entry) -> None:
    """Nobody listens."""


async def well(_turn: Turn) -> TurnOutcome:
    return Ok()


async def forever(_turn: Turn) -> TurnOutcome:
    await asyncio.Event().wait()
    return Ok()


def short_pause(reaction: Reaction, in_a_row: int, _retry_after: float | None) -> float:
    """Back-off from 10 ms to 40 ms, so that a test sees several of its steps; a paused harness stays paused."""
    return 3_600.0 if reaction.state in ("paused", "needs_login") else min(0.01 * 2 ** (in_a_row - 1), 0.04)


class Running:
    """A harness at work; `end` stops it as SIGTERM does. `events` is what it published."""

    def __init__(
        self, core: FakeCore, client: CoreClient, state: Path, backend: FakeBackend, values: Mapping[str, Any]
    ) -> None:
        self.events: list[tuple[str, Mapping[str, object]]] = []
        self.controls: Controls | None = None
        self.core = core
        self.backend = backend
        self.opened = 0
        self.open_fails = False

        def opened(_profile: Profile) -> FakeBackend:
            self.opened += 1
            if self.open_fails:
                raise RuntimeError("it does not open")
            return backend

        def page(controls: Controls, _profile: Profile) -> nullcontext[None]:
            self.controls = controls
            return nullcontext()

        settings = {"pause": short_pause, **values}
        harness = Harness(client, INSTANCE, "1", state, opened, publish=self._note, page=page, **settings)
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(harness.run(self.stop))
        self._happened = asyncio.Event()

    def _note(self, kind: str, data: Mapping[str, object]) -> None:
        self.events.append((kind, data))
        self._happened.set()

    @property
    def desk(self) -> Controls:
        """What a person can ask."""
        assert self.controls is not None, "the harness has not come up yet"
        return self.controls

    def told(self, kind: str, /, **values: object) -> list[Mapping[str, object]]:
        """Events of one kind in which these values stand."""
        return [data for told, data in self.events if told == kind and values.items() <= data.items()]

    async def until(self, true: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait until an event made `true` so."""
        async with asyncio.timeout(seconds):
            while not true():
                self._happened.clear()
                await self._happened.wait()

    async def turn(self, number: int, state: str) -> Mapping[str, object]:
        """Wait until a turn has come into a state."""
        await self.until(lambda: self.told("turn", id=number, state=state))
        return self.told("turn", id=number, state=state)[-1]

    async def end(self) -> None:
        self.stop.set()
        async with asyncio.timeout(10):
            await self.task


@asynccontextmanager
async def serving(core: FakeCore, state: Path, run: Run, **values: Any) -> AsyncIterator[Running]:
    """A harness whose turns are `run`; `values` are arguments of Harness."""
    async with CoreClient(core.socket, patience=math.inf) as client:
        running = Running(core, client, state, FakeBackend(run), values)
        try:
            yield running
        finally:
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)
