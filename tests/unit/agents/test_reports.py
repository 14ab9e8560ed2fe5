"""What becomes of the harnesses' reports: who is told of trouble, and what is forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from hive_core.agents.reports import Reports
from hive_core.broker import Broker, Directory, Member
from hive_core.events import EventHub
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
    assert [body.split()[1] for _, body in scene.told.sent] == ["needs"]
    scene.directory.put(Member("bob", "agent"))
    await scene.reports.harness("bob", "needs_login", "")
    assert [body.split()[1] for _, body in scene.told.sent] == ["needs", "needs"]
