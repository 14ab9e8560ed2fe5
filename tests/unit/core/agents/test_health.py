"""Whether a deployment came up: what counts as healthy, and what ends the wait early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from hive_core.agents.health import HarnessReports
from hive_core.errors import HiveError
from hive_core.infra.database.connection import Operation
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory, Member
from hive_core.protocol import HarnessState
from hive_core.protocol.base import PAUSED_BY_OPERATOR
from hive_core.runtimes.base import UnitState
from tests.unit.core.agents.builders import AgentHive, FakeProcesses, in_force, opened

LONG = 100.0
PROMPT = 10


async def no_log(_name: str) -> list[str]:
    return []


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[AgentHive]:
    """A hive with bob, on deployment 1."""
    async with opened(Layout(tmp_path / "state", tmp_path / "run")) as hive:
        await hive.spawn("bob")
        await hive.deployments.deploy("bob", in_force(1))
        following = asyncio.create_task(hive.reports.follow(hive.processes.watch(), no_log))
        yield hive
        following.cancel()
        await asyncio.wait([following])


async def waiting(hive: AgentHive, seconds: float = LONG) -> asyncio.Task[str]:
    """Somebody who waits for deployment 1, and has found nothing yet."""
    task = asyncio.create_task(hive.deployments.wait_healthy("bob", 1, seconds))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def answer(task: asyncio.Task[str]) -> str:
    async with asyncio.timeout(PROMPT):
        return await task


@pytest.mark.parametrize("state", ["idle", "thinking", "needs_login", "paused"])
async def test_a_harness_that_can_work_is_healthy(hive: AgentHive, state: HarnessState) -> None:
    """It says hello with the deployment's number and then that it is ready, whatever the agent CLI still lacks."""
    task = await waiting(hive)
    await hive.report("bob", 1)
    await asyncio.sleep(0)
    assert not task.done()
    await hive.report("bob", 1, state)
    assert await answer(task) == ""


async def test_what_was_reported_before_the_wait_counts(hive: AgentHive) -> None:
    """A harness that is quicker than whoever waits for it is healthy all the same."""
    await hive.report("bob", 1, "idle")
    assert await hive.deployments.wait_healthy("bob", 1, 0) == ""


async def test_what_was_said_before_the_deployment_does_not_count(hive: AgentHive) -> None:
    """A harness cannot vouch for the deployment that is to replace it, nor one life for the next."""
    await hive.report("bob", 2, "idle")
    await hive.deployments.deploy("bob", in_force(2))
    assert "did not report in" in await hive.deployments.wait_healthy("bob", 2, 0)
    await hive.reports.harness("bob", "idle", "")  # The old one's last word.
    assert "did not report in" in await hive.deployments.wait_healthy("bob", 2, 0)


@pytest.mark.parametrize(
    ("deployment", "states", "why"),
    [
        (0, ["idle"], "its harness reported in with deployment 0 instead of 1"),
        (None, ["idle"], "its harness reported in without saying which deployment it runs"),
        (1, [], "its harness reported in, but not that it is ready"),
        (1, ["failed"], "its harness reported that it failed"),
    ],
)
async def test_what_is_missing_is_told_when_the_time_is_up(
    hive: AgentHive, deployment: int | None, states: list[HarnessState], why: str
) -> None:
    """Whoever reads why a deployment failed learns how far it came, and how long that was waited for."""
    await hive.report("bob", deployment, *states)
    told = await hive.deployments.wait_healthy("bob", 1, 0.01)
    quoted = "\nThe reason, in its own words:\n> no\n> model" if "failed" in states else ""
    assert told == f"{why} (waited 0.01 seconds){quoted}"


async def test_a_harness_may_recover_in_time(hive: AgentHive) -> None:
    """A first failure is not the end: what it says last within the time is what counts."""
    await hive.report("bob", 1, "failed")
    task = await waiting(hive)
    await hive.reports.harness("bob", "idle", "")
    assert await answer(task) == ""


async def test_an_agent_that_failed_for_good_is_told_at_once(hive: AgentHive) -> None:
    """Nobody waits out the time for a harness that is not started again."""
    task = await waiting(hive)
    hive.processes.fail(UnitState("bob", "failed", exit_cause="cannot be started: No such file or directory"))
    assert await answer(task) == "it failed: cannot be started: No such file or directory"


async def test_crashes_are_told_with_the_time_out(hive: AgentHive) -> None:
    """A harness that crashes gets the whole time to come up; if it does not, its last end is named."""
    hive.processes.fail(UnitState("bob", "backoff", exit_cause="exit code 1"))
    why = await hive.deployments.wait_healthy("bob", 1, 0.01)
    first, *words = why.splitlines()
    assert first.startswith("its harness did not report in") and first.endswith("the last time with: exit code 1")
    assert words == ["The last line that it printed, in its own words:", "> last line of bob"]


async def test_a_stop_or_a_destroy_ends_the_wait(hive: AgentHive) -> None:
    """What the operator does meanwhile is told at once, and is not mistaken for a failure to start."""
    task = await waiting(hive)
    await hive.lifecycle.stop("bob", "operator")
    assert await answer(task) == "it was stopped"
    await hive.lifecycle.start("bob", "operator")
    task = await waiting(hive)
    await hive.lifecycle.destroy("bob", "operator", purge=False)
    assert await answer(task) == "it was destroyed"


async def test_another_deployment_ends_the_wait(hive: AgentHive) -> None:
    """The wait is for one deployment, not for whatever comes after it."""
    task = await waiting(hive)
    await hive.deployments.deploy("bob", in_force(2))
    await hive.report("bob", 2, "idle")
    assert await answer(task) == "deployment 2 took its place"


async def test_a_new_agent_of_the_name_starts_with_nothing_said(hive: AgentHive) -> None:
    """What the harness of a destroyed agent said does not make its successor healthy."""
    await hive.report("bob", 1, "idle")
    await hive.lifecycle.destroy("bob", "operator", purge=False)
    await hive.deployments.create("bob", in_force(1), start=True, actor="operator")
    assert "did not report in" in await hive.deployments.wait_healthy("bob", 1, 0)


class Told:
    """Stands for the broker, and keeps what it is to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def announce(self, notifications: Sequence[tuple[str, str]], within: Operation[None], about: str) -> None:
        assert about in ("bob", "hm1nd")
        self.sent += notifications


class HealthScene:
    """The manager and bob, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told = Told()
        self.directory = Directory()
        self.directory.put(Member("hm1nd", "manager"))
        self.directory.put(Member("bob", "agent"))
        self.processes = FakeProcesses(running={"bob", "hm1nd"}, runs={"bob": 1, "hm1nd": 1})
        self.events = EventHub()
        self.reports = HarnessReports(
            self.events, cast(Broker, self.told), self.directory, self.processes, lambda: self.now
        )

    def now_of(self, name: str) -> tuple[str, str, str]:
        """Lifecycle, state and detail of an agent."""
        condition = self.reports.condition(self.processes.unit(name) or UnitState(name, "stopped"))
        return condition.unit.lifecycle, condition.state, condition.detail


async def units(*states: UnitState) -> AsyncIterator[UnitState]:
    for state in states:
        yield state


async def test_an_agent_that_keeps_failing_is_told_to_the_manager() -> None:
    """The manager hears of an agent whose turns all fail, with the reason; the operator hears of the manager's."""
    scene = HealthScene()
    for name in ("bob", "hm1nd"):
        await scene.reports.hello(name, 1)
        await scene.reports.harness(name, "failed", "no model")
    scene.now += 60
    for name in ("bob", "hm1nd"):
        await scene.reports.harness(name, "failed", "no model")
    assert scene.told.sent == [
        ("hm1nd", "bob cannot handle its messages.\nThe reason, in its own words:\n> no model"),
        ("operator", "hm1nd cannot handle its messages.\nThe reason, in its own words:\n> no model"),
    ]


async def test_a_destroyed_agent_is_forgotten() -> None:
    """Its successor's trouble is told at once; what its process still does afterwards is nobody's news."""
    scene = HealthScene()
    await scene.reports.hello("bob", 1)
    await scene.reports.harness("bob", "needs_login", "")
    scene.directory.remove("bob")
    scene.reports.forget("bob")
    await scene.reports.follow(units(UnitState("bob", "failed", exit_cause="killed by SIGKILL")), no_log)
    told = [(to, body.split()[1]) for to, body in scene.told.sent]
    assert told == [("hm1nd", "needs"), ("operator", "needs")], "only a person can log in"
    scene.directory.put(Member("bob", "agent"))
    await scene.reports.hello("bob", 1)
    await scene.reports.harness("bob", "needs_login", "")
    assert [body.split()[1] for to, body in scene.told.sent if to == "hm1nd"] == ["needs", "needs"]


CRASH = UnitState("bob", "backoff", exit_cause="killed by SIGKILL")


async def test_a_crash_is_told_with_the_last_lines_of_the_log() -> None:
    """In one message: what happened first, then the agent's own words, marked as such and safe for a terminal."""
    scene = HealthScene()

    async def last_lines(name: str) -> list[str]:
        assert name == "bob"
        return [*(f"line {number}" for number in range(20)), "\x1b[2Jcleared\u202e", "x" * 1_000]

    await scene.reports.follow(units(CRASH, CRASH), last_lines)
    ((to, body),) = scene.told.sent
    lines = body.splitlines()
    assert to == "hm1nd" and lines[0].startswith("bob crashed (killed by SIGKILL)")
    assert lines[1] == "The last lines of its log, in its own words:"
    assert lines[2] == "> line 12" and lines[-2] == "> \\x1b[2Jcleared\\u202e"
    assert len(lines) == 12 and lines[-1] == f"> {'x' * 200} [...]"


async def test_a_crash_is_told_though_the_log_cannot_be_had() -> None:
    """Neither a log that cannot be read nor one that takes its time keeps the message back."""
    scene = HealthScene()

    async def refused(_name: str) -> list[str]:
        raise HiveError("not_found", "no log")

    async def endless(_name: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    await scene.reports.follow(units(CRASH), refused)
    scene.reports.forget("bob")
    async with asyncio.timeout(5):
        await scene.reports.follow(units(CRASH), endless)
    assert [body.count("\n") for _, body in scene.told.sent] == [0, 0]


async def test_an_agent_that_runs_out_of_memory_is_told_of_once() -> None:
    """It goes on, and is not said to have crashed; who hears of it is told how to allow it more."""
    scene = HealthScene()
    starved = UnitState("bob", "running", pid=42, oom_killed=True)
    await scene.reports.follow(units(starved, starved), no_log)
    ((to, body),) = scene.told.sent
    assert to == "hm1nd" and body.startswith("bob ran out of memory") and "hive-c0re limits bob --memory" in body


async def test_a_harness_that_was_there_before_the_daemon_is_not_starting() -> None:
    """It says hello again and then what it is doing: nothing else is told of it, and its deployment counts."""
    scene = HealthScene()
    before = scene.events.last_id
    await scene.reports.hello("bob", 7, again=True)
    await scene.reports.harness("bob", "thinking", "1 message")
    assert scene.now_of("bob") == ("running", "thinking", "1 message")
    with scene.events.reader(before) as events:
        event = await anext(events)
        assert event is not None and event.data["state"] == "thinking"
    assert await scene.reports.health_monitor.wait("bob", 7, 0, lambda: "") == ""


async def test_the_same_crash_again_and_again_is_told_with_the_last_line() -> None:
    """Once per incident, to manager and operator, with the program's own last line marked as such."""
    scene = HealthScene()
    loop = [UnitState("bob", "backoff", exit_cause="exit code 1", restarts=run - 1, run=run) for run in range(1, 6)]
    await scene.reports.follow(units(*loop), no_log)
    first, *others = scene.told.sent
    assert first[1].startswith("bob crashed (exit code 1)")
    assert [to for to, _ in others] == ["hm1nd", "operator"]
    lines = others[0][1].splitlines()
    assert lines[0].startswith("bob does not come up: it has ended 3 times in a row before it was ready, the last time")
    assert "with: exit code 1." in lines[0]
    assert lines[1:] == ["The last line that it printed, in its own words:", "> last line of bob"]


async def test_crashes_in_a_row_are_told_until_the_agent_is_ready() -> None:
    """Whatever the process does meanwhile, the condition has them; none is left when the harness is ready."""
    scene = HealthScene()
    crash = UnitState("bob", "backoff", exit_cause="exit code 1", run=1)
    await scene.reports.follow(units(crash, crash.change("starting", restarts=1)), no_log)
    scene.processes.runs["bob"] = 2
    await scene.reports.hello("bob", 1)
    found = scene.reports.condition(UnitState("bob", "running", run=2)).crash
    assert found is not None
    assert (found.cause, found.in_a_row, found.last_line) == ("exit code 1", 1, "last line of bob")
    await scene.reports.harness("bob", "idle", "")
    assert scene.reports.condition(UnitState("bob", "running", run=2)).crash is None


async def test_a_report_of_a_harness_that_has_ended_is_ignored() -> None:
    """A request that arrives late does not make an agent `idle` that is stopped, nor its successor."""
    scene = HealthScene()
    await scene.reports.hello("bob", 1)
    scene.processes.running.discard("bob")
    await scene.reports.follow(units(UnitState("bob", "stopped", run=1)), no_log)
    await scene.reports.harness("bob", "idle", "late")
    assert scene.now_of("bob") == ("stopped", "offline", "")
    scene.processes.running.add("bob")
    scene.processes.runs["bob"] = 2
    await scene.reports.harness("bob", "idle", "late")
    assert scene.now_of("bob") == ("running", "offline", "")
    await scene.reports.hello("bob", 1)
    assert scene.now_of("bob") == ("running", "starting", "")


async def test_a_message_that_takes_long_keeps_no_state_waiting() -> None:
    """The end of a harness is known while the message about its crash cannot be stored yet."""
    scene = HealthScene()
    held = asyncio.Event()

    async def slow(_name: str) -> list[str]:
        await held.wait()
        return []

    before = scene.events.last_id
    following = asyncio.create_task(scene.reports.follow(units(CRASH, CRASH.change("starting")), slow))
    with scene.events.reader(before) as events:
        async with asyncio.timeout(PROMPT):
            seen = [await anext(events), await anext(events)]
    assert [event.data["lifecycle"] for event in seen if event is not None] == ["backoff", "starting"]
    assert [event.data["cause"] for event in seen if event is not None] == ["killed by SIGKILL", ""]
    held.set()
    await following


async def test_a_harness_that_ended_by_itself_is_known() -> None:
    """A harness that starts again in the same run of its unit, or after a crash, had not been stopped by the hive."""
    scene = HealthScene()
    assert not scene.reports.has_crashed("bob")
    await scene.reports.hello("bob", 1)
    assert scene.reports.has_crashed("bob"), "another one starts, and its container goes on"
    await scene.reports.follow(units(UnitState("bob", "stopping", run=1), UnitState("bob", "stopped", run=1)), no_log)
    scene.processes.runs["bob"] = 2
    assert not scene.reports.has_crashed("bob")
    await scene.reports.follow(units(UnitState("bob", "backoff", exit_cause="exit code 1", run=2)), no_log)
    scene.processes.runs["bob"] = 3
    assert scene.reports.has_crashed("bob")
    await scene.reports.hello("bob", 1)
    await scene.reports.follow(units(UnitState("bob", "stopped", run=3)), no_log)
    scene.processes.runs["bob"] = 4
    assert not scene.reports.has_crashed("bob"), "the crash before counted once"


async def test_a_notice_reaches_the_operator() -> None:
    """A notice of a harness with its state is a message of the hive to manager and operator."""
    scene = HealthScene()
    await scene.reports.hello("bob", 1)
    await scene.reports.harness("bob", "thinking", "", "a new conversation")
    assert [to for to, _ in scene.told.sent] == ["hm1nd", "operator"]
    assert all(body.endswith("> a new conversation") for _, body in scene.told.sent)


async def test_what_is_told_elsewhere_is_told_once() -> None:
    """Waiting for money and stopped calls are no alerts, as the ledger tells them; the operator's pause is none."""
    scene = HealthScene()
    await scene.reports.hello("bob", 1)
    await scene.reports.harness("bob", "budget", "no money")
    scene.now += 3_600
    await scene.reports.harness("bob", "budget", "still no money")
    scene.reports.is_stopped = {"bob"}.__contains__
    await scene.reports.harness("bob", "paused", "the vendor refuses")
    assert scene.told.sent == []
    scene.reports.is_stopped = lambda _: False
    await scene.reports.harness("bob", "paused", PAUSED_BY_OPERATOR)
    assert scene.told.sent == []
    await scene.reports.harness("bob", "paused", "no program")
    assert [to for to, _ in scene.told.sent] == ["hm1nd", "operator"]


async def test_the_time_at_which_a_harness_goes_on() -> None:
    """It is a part of the agent's condition until the next report, and each report is passed on."""
    scene = HealthScene()
    heard: list[tuple[str, HarnessState]] = []
    scene.reports.reported.append(lambda name, state: heard.append((name, state)))
    at = datetime(2026, 12, 1, tzinfo=UTC)
    unit = scene.processes.unit("bob")
    assert unit is not None
    await scene.reports.hello("bob", 1)
    await scene.reports.harness("bob", "budget", "no money", goes_on_at=at)
    assert scene.reports.condition(unit).goes_on_at == at
    await scene.reports.harness("bob", "thinking", "1 message")
    assert scene.reports.condition(unit).goes_on_at is None
    assert heard == [("bob", "starting"), ("bob", "budget"), ("bob", "thinking")]
