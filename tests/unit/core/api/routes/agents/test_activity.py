"""The answer to the overview: agents that work are asked, others are not, and samples are bounded."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hive_core.api.routes.agents import activity
from hive_core.api.routes.agents.activity import Activities
from hive_core.errors import HiveError
from hive_core.protocol import HarnessView, HarnessWork, Limits, LimitsAnswer
from hive_core.protocol.config.limits import Usage
from hive_core.protocol.pages import TurnView


class Scene:
    """ada works and bob is idle. `now` is the time that the module sees."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.used = 0.0
        self.now = 1_000.0
        self.states = {"ada": "thinking", "bob": "idle"}
        self.refuses = False
        agents = SimpleNamespace(
            changed=[],
            statuses=lambda: [
                SimpleNamespace(name=name, lifecycle="running", state=state) for name, state in self.states.items()
            ],
            exists=self.states.__contains__,
            record=lambda name: SimpleNamespace(name=name),
        )
        self.agents = agents
        make = cast(Any, Activities)
        self.activities: Activities = make(agents, SimpleNamespace(hold_view=lambda _: None), self, self, self.spawners)

    async def spawners(self) -> dict[str, str]:
        return {"ada": "hm1nd", "bob": "operator", "gone": "hm1nd"}

    async def ask(self, name: str, path: str, answer: type) -> HarnessView:
        self.asked.append(name)
        if self.refuses:
            raise HiveError("harness_unreachable", "no", status=503)
        turn = TurnView.model_validate({"id": 3, "attempt": 1, "state": "running", "started_at": 50.0})
        told = {"state": "thinking", "activity": "Bash ls", "turn": turn, "context": 70}
        return HarnessView.model_validate(told)

    async def read(self, name: str) -> LimitsAnswer:
        self.used += 5.0
        usage = Usage(memory_bytes=1_000, cpu_seconds=self.used)
        in_force = Limits(memory_max="1G", cpu_quota=150)
        return LimitsAnswer(name=name, configured=in_force, in_force=in_force, enforced=True, usage=usage)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A scene with a clock of its own."""
    made = Scene()
    monkeypatch.setattr(activity, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


async def test_only_agents_at_work_are_asked(scene: Scene) -> None:
    """A harness that works tells what it does; one that waits is not asked, and its own report is shown."""
    scene.activities.note("bob", HarnessWork(model="m", context=10, window=100, last_turn_at=100.0))
    scene.activities.note("ada", HarnessWork(model="n", context=60, window=100))
    found = {each.agent: each for each in (await scene.activities.read()).agents}
    assert scene.asked == ["ada"]
    assert found["ada"].activity == "Bash ls"
    assert (found["ada"].context, found["ada"].window) == (70, 100)
    assert found["bob"].last_turn_at == datetime.fromtimestamp(100, UTC)
    assert found["bob"].memory_max == 1024**3
    await scene.activities.read()
    assert scene.asked == ["ada"], "asked again at once"
    scene.now += 2
    scene.states["ada"] = "idle"
    assert {each.activity for each in (await scene.activities.read()).agents} == {""}


async def test_a_harness_that_does_not_answer_leaves_no_trace(scene: Scene) -> None:
    """An agent whose harness cannot be reached is listed without an activity."""
    scene.refuses = True
    found = (await scene.activities.read()).agents
    assert [(each.agent, each.activity) for each in found] == [("ada", ""), ("bob", "")]


async def test_samples_are_bounded_and_without_gaps(scene: Scene) -> None:
    """Samples are taken at intervals, so many at most, and begin again after a pause."""
    for _ in range(70):
        scene.now += activity.SAMPLE_SECONDS
        answer = await scene.activities.read()
        await scene.activities.read()
    bob = answer.agents[1]
    assert len(bob.memory) == 60
    assert bob.processor[-1] == pytest.approx(100.0)  # Each read of one of the two adds 5 s, in 10 s.
    scene.now += 1_000
    assert cast(Any, (await scene.activities.read()).agents[1]).memory == [1_000]


async def test_spawners_of_removed_agents_are_left_out(scene: Scene) -> None:
    """Only agents that there are have somebody who asked for them, also after a change."""
    assert (await scene.activities.read()).spawned_by == {"ada": "hm1nd", "bob": "operator"}
    del scene.states["ada"]
    for call in scene.agents.changed:
        call("ada")
    assert (await scene.activities.read()).spawned_by == {"bob": "operator"}
