"""States of agents are facts of now: no sequence of events makes state and detail contradict the processes."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from pathlib import Path
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from hive_core.agents.health import HarnessReports
from hive_core.infra.systemd.units import UnitProperties
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import Broker, Directory, Member
from hive_core.protocol import HarnessState
from hive_core.runtimes.base import Runtime, UnitState
from hive_core.runtimes.nixos.containers.monitor import ContainerState
from hive_core.runtimes.unit_state import BackOff, StateChanges
from tests.unit.core.runtimes.local.supervisor_bench import Bench

AGAIN = BackOff(first=0.0, longest=0.0)
"""A crashed harness is started again in the next moment."""
STATES: tuple[HarnessState, ...] = ("idle", "thinking", "failed", "paused", "needs_login")


class SilentBroker:
    """Takes every message."""

    async def announce(self, *_arguments: object) -> None:
        """Take announcements."""


class BenchRuntime:
    """The one agent of a bench, as a runtime."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def unit(self, _name: str) -> UnitState:
        return self._bench.supervisor.state

    async def last_line(self, _name: str) -> str:
        return self._bench.supervisor.last_line


class Scene:
    """An agent on the local runtime, its harnesses, and what the daemon says of them."""

    def __init__(self, place: Path) -> None:
        self.bench = Bench(place, AGAIN)
        directory = Directory()
        directory.put(Member("ada", "agent"))
        runtime = cast(Runtime, BenchRuntime(self.bench))
        self.reports = HarnessReports(EventHub(), cast(Broker, SilentBroker()), directory, runtime)
        self.heard: tuple[int, HarnessState, str] | None = None
        """The process of the last harness that has said hello, and its state and detail."""
        self.count = 0

    @property
    def alive(self) -> bool:
        """True if there is a harness that has neither ended nor been asked to."""
        return bool(self.bench.children) and not self.bench.children[-1].end.done()

    async def do(self, event: str, state: HarnessState) -> None:
        bench = self.bench
        match event:
            case "start":
                await bench.start()
            case "stop":
                await bench.supervisor.stop()
            case "crash" if self.alive:
                bench.children[-1].end.set_result("exit code 1")
            case "short":
                bench.errors.append(OSError(errno.EAGAIN, "short"))
            case "missing":
                bench.errors.append(FileNotFoundError(errno.ENOENT, "gone", "/no/program"))
            case "hello" if self.alive:
                self.heard = (len(bench.children), "starting", "")
                await self.reports.hello("ada", 1)
            case "report":  # Also from one that has ended since: its request may arrive late.
                if self.heard is not None and (self.heard[0] == len(bench.children) or not self.alive):
                    self.count += 1
                    self.heard = (self.heard[0], state, f"detail {self.count}")
                    await self.reports.harness("ada", state, f"detail {self.count}")
            case "wait":
                for _ in range(20):
                    await asyncio.sleep(0)

    def check(self) -> None:
        """Compare what is said with what is there."""
        unit = self.bench.supervisor.state
        now = self.reports.condition(unit)
        if now.state != "offline":
            assert unit.lifecycle in ("starting", "running", "stopping")
            assert self.heard == (len(self.bench.children), now.state, now.detail), "an earlier harness said that"
        else:
            assert now.detail == ""
        if self.heard is not None and self.alive and unit.lifecycle == "running":
            number, state, detail = self.heard
            if number == len(self.bench.children):
                assert (now.state, now.detail) == (state, detail)
        assert "supervision failed" not in unit.exit_cause
        assert (unit.lifecycle == "running") <= (unit.pid == len(self.bench.children))
        assert not (unit.exit_cause and unit.lifecycle in ("starting", "running", "stopping"))
        if now.crash is not None:
            assert unit.lifecycle != "stopped" or now.crash.run == unit.run
        if now.state in ("idle", "thinking"):
            assert now.crash is None or now.crash.run < unit.run


EVENTS = ("start", "stop", "crash", "crash", "short", "missing", "hello", "hello", "report", "report", "wait", "wait")


async def live(events: list[tuple[str, HarnessState]], *, late: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        scene = Scene(Path(place))
        following = asyncio.create_task(follow(scene, asyncio.Event() if late else None))
        try:
            for event, state in events:
                await scene.do(event, state)
                scene.check()
        finally:
            await scene.bench.close_without_reading()
            scene.check()
            following.cancel()
            await asyncio.wait([following])


async def follow(scene: Scene, held: asyncio.Event | None) -> None:
    """Follow the changes, or hear of none of them, as if the daemon had a lot to do."""
    if held is not None:
        await held.wait()
    await scene.reports.follow(scene.bench.changes, no_lines)


async def no_lines(_name: str) -> list[str]:
    return []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from(STATES)), max_size=25), st.booleans())
def test_states_of_a_local_agent_are_facts_of_now(events: list[tuple[str, HarnessState]], late: bool) -> None:
    """Starts, stops, crashes, failed starts, and reports in any order, also late ones of a harness that has ended.

    With `late` the daemon hears of no change of the process before the end.
    """
    asyncio.run(live(events, late=late))


ENDS = ((1, 0, "success"), (1, 1, "exit-code"), (1, 133, "success"), (2, 9, "signal"), (2, 15, "timeout"))
ASKED = ("start", "again", "stop", "stop to start", "start failed", "stop failed")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(ASKED), st.sampled_from(("up", "lost", *ENDS))), max_size=30))
def test_states_of_a_container_are_those_of_its_unit(events: list[object]) -> None:
    """Whatever is asked for, and whatever systemd tells, of which some is lost: the state never mixes two runs."""
    container, changes = ContainerState("ada"), StateChanges()
    container.look(UnitProperties("u", "inactive", "dead"))  # Before a start the daemon looks at the unit.
    run, active = 0, "inactive"
    for moment, event in enumerate(events, start=1):
        match event:
            case "start" if active == "inactive":
                container.start_asked()
            case "again" if container.state.lifecycle == "backoff":
                container.start_again()
            case "stop" | "stop to start":
                container.stop_asked(to_start=event == "stop to start")
            case "start failed":
                container.start_failed("no such unit")
            case "stop failed":
                container.stop_failed()
            case "up" | "lost":
                run, active = run + (active == "inactive"), "active"
                now = UnitProperties("u", "active", "running", main_pid=run, invocation=str(run), changed_usec=moment)
                if event == "up":
                    container.look(now)
                    assert container.state.has_processes
            case (int(code), int(status), str(result)) if active == "active":
                active = "inactive"
                name = "inactive" if result == "success" else "failed"
                container.look(
                    UnitProperties("u", name, "dead", result, code, status, invocation=str(run), changed_usec=moment)
                )
                assert not container.state.has_processes
        state = container.state
        assert (state.lifecycle == "running") <= (state.pid is not None)
        assert not (state.has_processes and state.exit_cause)
        changes.publish(state)
