"""What becomes of the harnesses' reports: who is told of trouble, and what is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

from hive_core.agents.reports import Reports
from hive_core.errors import HiveError
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import Broker, Directory, Member
from hive_core.protocol import SendAnswer, SendRequest
from hive_core.runtimes.base import UnitState


class Told:
    """Stands for the broker, and keeps what it is to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def send(self, sender: str, request: SendRequest) -> SendAnswer:
        assert sender == "system"
        self.sent.append((request.to, request.body))
        return SendAnswer(id=1, recipients=[request.to])


class Scene:
    """The manager and bob, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told = Told()
        self.directory = Directory()
        self.directory.put(Member("hm1nd", "manager"))
        self.directory.put(Member("bob", "agent"))
        self.reports = Reports(EventHub(), cast(Broker, self.told), self.directory, lambda: self.now)


async def units(*states: UnitState) -> AsyncIterator[UnitState]:
    for state in states:
        yield state


async def no_log(_name: str) -> list[str]:
    return []


async def test_an_agent_that_keeps_failing_is_told_to_the_manager() -> None:
    """The manager hears of an agent whose turns all fail, with the reason; the operator hears of the manager's."""
    scene = Scene()
    for name in ("bob", "hm1nd"):
        await scene.reports.harness(name, "failed", "no model")
    scene.now += 60
    for name in ("bob", "hm1nd"):
        await scene.reports.harness(name, "failed", "no model")
    assert scene.told.sent == [
        ("hm1nd", "bob cannot handle its messages: no model"),
        ("operator", "hm1nd cannot handle its messages: no model"),
    ]


async def test_a_destroyed_agent_is_forgotten() -> None:
    """Its successor's trouble is told at once; what its process still does afterwards is nobody's news."""
    scene = Scene()
    await scene.reports.harness("bob", "needs_login", "")
    scene.directory.remove("bob")
    scene.reports.forget("bob")
    await scene.reports.follow(units(UnitState("bob", "failed", exit_cause="killed by SIGKILL")), no_log)
    told = [(to, body.split()[1]) for to, body in scene.told.sent]
    assert told == [("hm1nd", "needs"), ("operator", "needs")], "only a person can log in"
    scene.directory.put(Member("bob", "agent"))
    await scene.reports.harness("bob", "needs_login", "")
    assert [body.split()[1] for to, body in scene.told.sent if to == "hm1nd"] == ["needs", "needs"]


CRASH = UnitState("bob", "backoff", exit_cause="killed by SIGKILL")


async def test_a_crash_is_told_with_the_last_lines_of_the_log() -> None:
    """In one message: what happened first, then the agent's own words, marked as such and safe for a terminal."""
    scene = Scene()

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
    scene = Scene()

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
    scene = Scene()
    starved = UnitState("bob", "running", pid=42, starved=True)
    await scene.reports.follow(units(starved, starved), no_log)
    ((to, body),) = scene.told.sent
    assert to == "hm1nd" and body.startswith("bob ran out of memory") and "hive-c0re limits bob --memory" in body


async def test_a_harness_that_was_there_before_the_daemon_is_not_starting() -> None:
    """It says hello again and then what it is doing: nothing else is told of it, and its deployment counts."""
    scene = Scene()
    await scene.reports.hello("bob", 7, again=True)
    assert scene.reports.last("bob").state == "offline"
    await scene.reports.harness("bob", "thinking", "1 message")
    assert scene.reports.last("bob").state == "thinking"
    assert await scene.reports.health.wait("bob", 7, 0, lambda: "") == ""
