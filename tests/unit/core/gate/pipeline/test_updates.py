"""Agents that were built with an older hyperhive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from hive_core.gate.pipeline.updates import may_update
from hive_core.gate.policy import MAIN_MOVED, UP_TO_DATE
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State
from hive_core.layout import Layout
from hive_core.protocol import DestroyRequest
from hive_core.runtimes.base import BuildFailed
from tests.unit.core.gate.gate_hive import OPERATOR, PATIENCE, GateHive, opened, quick

HOUR = 3_600_000
NOW = 1_000 * HOUR
DEPLOYED = ProposalRow(
    agent="ada",
    number=3,
    state=State.DEPLOYED,
    kind="config",
    by="ada",
    closure="closure",
    commit="a" * 40,
    created_at=NOW - 50 * HOUR,
    changed_at=NOW - 50 * HOUR,
)


def marked(gate_hive: GateHive) -> set[str]:
    return {status.name for status in gate_hive.hive.agents.statuses() if status.needs_update}


async def test_marked_and_told_once(layout: Layout) -> None:
    """The manager gets one message about all, not again at the next start; only news are told after that."""
    async with opened(layout) as scene:
        await scene.gate.verification.verify()
        assert marked(scene) == set()
        scene.runtime.hyperhive = "newer"
        for _ in range(2):
            await scene.gate.updates.check_outdated()
            assert marked(scene) == {"hm1nd", "ada", "bob"}
            assert await scene.notified("hm1nd") == ["Rebuild 3 agents, to run on the hyperhive of now."]
        assert "needs_update" in await scene.actions("bob")
    async with opened(layout, hyperhive="newer") as gate_hive:
        await gate_hive.rebuild("ada")
        await gate_hive.until("ada", 1, "deployed")
        await gate_hive.gate.updates.check_outdated()
        assert marked(gate_hive) == {"hm1nd", "bob"}
        gate_hive.runtime.hyperhive = "newest"
        await gate_hive.gate.updates.check_outdated()
        assert (await gate_hive.notified("hm1nd"))[1:] == ["Rebuild ada, to run on the hyperhive of now."]
        assert await gate_hive.notified("ada") == await gate_hive.notified("operator") == []
        await gate_hive.check()


async def test_without_a_manager(gate_hive: GateHive) -> None:
    """The operator is told instead, with the command."""
    await gate_hive.gate.agent_submissions.destroy("hm1nd", DestroyRequest(), OPERATOR)
    gate_hive.runtime.hyperhive = "newer"
    await gate_hive.gate.updates.check_outdated()
    (text,) = await gate_hive.inbox()
    assert text.startswith("Rebuild 2 agents") and "hive-c0re rebuild --outdated" in text


async def test_a_full_inbox_is_told_later(gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the manager had no room for is not written down as told: it is once there is room, and then no more."""
    inboxes, updates = gate_hive.hive.broker._inboxes, gate_hive.gate.updates
    limit = inboxes._limit
    monkeypatch.setattr(inboxes, "_limit", 0)
    gate_hive.runtime.hyperhive = "newer"
    assert not await updates.check_outdated()
    assert marked(gate_hive) == {"hm1nd", "ada", "bob"}
    assert await gate_hive.notified("hm1nd") == [] and "needs_update" not in await gate_hive.actions("bob")
    monkeypatch.setattr(inboxes, "_limit", limit)
    for _ in range(2):
        assert await updates.check_outdated()
        assert await gate_hive.notified("hm1nd") == ["Rebuild 3 agents, to run on the hyperhive of now."]
    await gate_hive.check()


@asynccontextmanager
async def by_itself(layout: Layout, *, works: bool = True) -> AsyncIterator[tuple[GateHive, asyncio.Queue[str]]]:
    """A hive of old agents that are updated by themselves, one at a time; and the states of its rebuilds."""
    states: asyncio.Queue[str] = asyncio.Queue()

    async def broken(*_: object) -> str:
        raise BuildFailed("no such package")

    def born(gate_hive: GateHive) -> None:
        publish = gate_hive.events.publish
        if not works:
            gate_hive.runtime.build = broken  # type: ignore[method-assign,assignment]

        def told(kind: object, data: dict[str, object]) -> None:
            if data.get("kind") == "rebuild":
                states.put_nowait(f"{data['agent']} {data['state']}")
            publish(kind, data)  # type: ignore[arg-type]

        gate_hive.events.publish = told  # type: ignore[method-assign,assignment]

    settings = quick(layout, nixos={"updates": "auto", "updates_at_once": 1})
    async with asyncio.timeout(PATIENCE), opened(layout, settings, born=born, hyperhive="newer") as gate_hive:
        yield gate_hive, states


async def test_by_themselves(layout: Layout) -> None:
    """With `updates = "auto"` they are rebuilt one after another, and whoever looks after the hive hears of it once."""
    steps = [State.PROPOSAL, State.BUILDING, State.BUILT, State.APPROVED, State.DEPLOYED]
    async with by_itself(layout) as (gate_hive, states):
        seen = [await states.get() for _ in range(15)]
        assert seen == [f"{agent} {state}" for agent in ("ada", "bob", "hm1nd") for state in steps]
        assert await gate_hive.notified("hm1nd") == ["Nothing to do: 3 agents will be rebuilt, a few at a time."]
        assert (await gate_hive.show("ada", 1)).by == "system"
        await gate_hive.settled()
        await gate_hive.gate.updates.check_outdated()
        assert marked(gate_hive) == set() and states.empty()
        await gate_hive.check()


async def test_not_all_of_them_in_vain(layout: Layout) -> None:
    """When rebuilds fail, no others are begun by themselves; the failure is told."""
    async with by_itself(layout, works=False) as (gate_hive, states):
        while await states.get() != "ada failed":
            pass
        await gate_hive.settled()
        await gate_hive.gate.updates.check_outdated()
        assert states.empty()
        assert [row.agent for row in await gate_hive.rows() if row.kind == "rebuild"] == ["ada"]
        assert (await gate_hive.notified("hm1nd"))[1:] == ["Proposal ada/1 failed."]
        assert "\nThe reason:\n> no such package\n" in (await gate_hive.messages("hm1nd"))[1]
        await gate_hive.check()


@pytest.mark.parametrize(
    ("deployed", "last", "may"),
    [
        ({}, None, True),
        ({"kind": "rollback"}, None, False),
        ({}, {"number": 2, "state": State.DEPLOYED}, True),
        ({}, {"state": State.BUILDING}, False),
        ({}, {"state": State.FAILED}, False),
        ({}, {"state": State.FAILED, "changed_at": NOW - 25 * HOUR}, True),
        ({}, {"state": State.WITHDRAWN, "outcome": UP_TO_DATE}, False),
        ({}, {"state": State.WITHDRAWN, "outcome": MAIN_MOVED}, False),
    ],
)
def test_when_an_agent_is_left_alone(deployed: dict[str, object], last: dict[str, object] | None, may: bool) -> None:
    """After a rollback until something else is deployed; for a day after a rebuild that came to nothing."""
    fields = {"kind": "rebuild", "number": 4, "changed_at": NOW - HOUR}
    newest = None if last is None else replace(DEPLOYED, **(fields | last))  # type: ignore[arg-type]
    assert may_update(replace(DEPLOYED, **deployed), newest, NOW) is may  # type: ignore[arg-type]
