"""The daemon dies between any two steps of every transition; the next one finishes or undoes what was under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from hive_core.layout import Layout
from hive_core.protocol import (
    DestroyProposal,
    DestroyRequest,
    ProposeRequest,
    PruneRequest,
    RollbackRequest,
    SpawnProposal,
    SpawnRequest,
    WithdrawRequest,
)
from hive_core.settings import Approval, AutoRule
from tests.unit.core.gate.faults.crash_points import SimulatedCrash
from tests.unit.core.gate.gate_hive import ADA, MANAGER, NOT_BUILDABLE, OPERATOR, GateHive, opened, quick
from tests.unit.core.gate.hive_template import Template

Act = Callable[[GateHive], Awaitable[object]]
LIKE_THE_STEP_BEFORE = ("tags written", "index written")
"""Points at which nothing has outlived the daemon since the one before, but for objects without a ref."""


@dataclass
class Kind:
    """What is cut off: `act`, on what `prepare` leaves. `ends` are the states that the agent's newest proposal is in
    when a daemon has lived on; `gone` allows that there is none.
    """

    act: Act
    ends: set[str]
    prepare: Act | None = None
    agent: str = "ada"
    settings: dict[str, Any] = field(default_factory=dict)
    hyperhive: str = ""


async def propose(gate_hive: GateHive, role: str = "You sing.") -> None:
    number = (await gate_hive.propose("ada", role)).number
    await gate_hive.until("ada", number, "built", "failed", "deployed", "withdrawn")


async def approve(gate_hive: GateHive, number: int = 1) -> None:
    await gate_hive.approve("ada", number)
    await gate_hive.until("ada", number, "deployed", "failed")


async def cannot_be_built(gate_hive: GateHive) -> None:
    sha = gate_hive.commit("ada", NOT_BUILDABLE)
    await gate_hive.gate.config_submissions.propose(ProposeRequest(commit=sha, note="oops"), ADA)
    await gate_hive.until("ada", 1, "failed")


async def fail_for_fetches(gate_hive: GateHive) -> None:
    await gate_hive.fail_for("ada", "https://a.example/x", "https://b.example/y /nix/store/sh")


async def allow_fetches(gate_hive: GateHive) -> None:
    number = (await gate_hive.allow_fetches("ada", 1)).number
    await gate_hive.until("ada", number, "built")


async def fetches_allowed(gate_hive: GateHive) -> None:
    await fail_for_fetches(gate_hive)
    await allow_fetches(gate_hive)


async def two_built(gate_hive: GateHive) -> None:
    await propose(gate_hive, "first")
    await propose(gate_hive, "second")


async def request_spawn(gate_hive: GateHive) -> None:
    await gate_hive.gate.agent_submissions.request_spawn(SpawnProposal(name="cy", note="please"), MANAGER)
    await gate_hive.until("cy", 0, "built")


async def approve_spawn(gate_hive: GateHive) -> None:
    await gate_hive.approve("cy", 0, OPERATOR)
    await gate_hive.until("cy", 0, "deployed")


async def request_destroy(gate_hive: GateHive, *, purge: bool = False) -> None:
    await gate_hive.gate.agent_submissions.request_destroy("ada", DestroyProposal(note="idle", purge=purge), MANAGER)


async def purge_asked(gate_hive: GateHive) -> None:
    await request_destroy(gate_hive, purge=True)


async def approve_purge(gate_hive: GateHive) -> None:
    await gate_hive.approve("ada", 1, OPERATOR)
    await gate_hive.settled()


async def approve_twice(gate_hive: GateHive) -> None:
    await gate_hive.approve("ada", 1)
    await gate_hive.approve("ada", 1, OPERATOR)
    await gate_hive.until("ada", 1, "deployed")


async def deny_and_prune(gate_hive: GateHive) -> None:
    await gate_hive.deny("ada", 1)
    await gate_hive.gate.pruning.prune(PruneRequest(agent="ada", older_than_days=0), OPERATOR)


async def destroy_while_building(gate_hive: GateHive) -> None:
    gate_hive.runtime.may_build.clear()
    await gate_hive.propose("ada", "third")
    await gate_hive.runtime.orders.get()
    await gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(), OPERATOR)


async def roll_back(gate_hive: GateHive) -> None:
    await gate_hive.gate.decisions.rollback("ada", RollbackRequest(note="back"), MANAGER)
    await gate_hive.until("ada", 2, "deployed")


async def rebuild(gate_hive: GateHive) -> None:
    number = (await gate_hive.rebuild("ada", MANAGER)).number
    await gate_hive.until("ada", number, "deployed", "withdrawn", "failed")


async def stopped_with(gate_hive: GateHive, role: str) -> None:
    """Deployed while nothing had to come up."""
    await gate_hive.hive.lifecycle.stop("ada", "operator")
    await gate_hive.deploy("ada", role)
    await gate_hive.hive.lifecycle.start("ada", "operator")


async def approve_destroy(gate_hive: GateHive) -> None:
    await gate_hive.approve("ada", 1, OPERATOR)
    await gate_hive.until("ada", 1, "deployed")


IN_ORDER = {"approval": Approval(config="both")}
BY_RULE = {"approval": Approval(rules=[AutoRule(name="prompts", when="prompt_only")])}

KINDS: dict[str, Kind] = {
    "spawn": Kind(
        lambda gate_hive: gate_hive.gate.agent_submissions.spawn(SpawnRequest(name="cy"), OPERATOR),
        {"deployed"},
        agent="cy",
    ),
    "propose": Kind(propose, {"built"}),
    "cannot be built": Kind(cannot_be_built, {"failed"}),
    "fail for fetches": Kind(fail_for_fetches, {"failed"}),
    "allow fetches": Kind(allow_fetches, {"built"}, fail_for_fetches),
    "approve with fetches": Kind(lambda gate_hive: approve(gate_hive, 2), {"deployed"}, fetches_allowed),
    "approve": Kind(approve, {"deployed"}, propose),
    "approve one of two": Kind(approve, {"built", "withdrawn"}, two_built),
    "approve what does not come up": Kind(approve, {"failed"}, lambda gate_hive: propose(gate_hive, "SILENT")),
    "approve in order": Kind(approve_twice, {"built", "deployed"}, propose, settings=IN_ORDER),
    "approved by a rule": Kind(propose, {"deployed"}, settings=BY_RULE),
    "deny": Kind(lambda gate_hive: gate_hive.deny("ada", 1), {"denied"}, propose),
    "prune": Kind(deny_and_prune, {"built", "denied"}, propose),
    "withdraw": Kind(
        lambda gate_hive: gate_hive.gate.decisions.withdraw("ada", 1, WithdrawRequest(), ADA), {"withdrawn"}, propose
    ),
    "rollback": Kind(roll_back, {"deployed"}, lambda gate_hive: gate_hive.deploy("ada", "first")),
    "rebuild": Kind(rebuild, {"deployed"}, hyperhive="newer"),
    "rebuild to the same": Kind(rebuild, {"withdrawn"}),
    "rebuild what does not come up": Kind(
        rebuild, {"failed"}, lambda gate_hive: stopped_with(gate_hive, "SILENT"), hyperhive="newer"
    ),
    "request a spawn": Kind(request_spawn, {"built"}, agent="cy"),
    "approve a spawn": Kind(approve_spawn, {"deployed"}, request_spawn, agent="cy"),
    "request a destroy": Kind(request_destroy, {"built"}),
    "approve a destroy": Kind(approve_destroy, {"deployed"}, request_destroy),
    "approve a purge": Kind(approve_purge, {"gone"}, purge_asked),
    "destroy": Kind(destroy_while_building, {"built", "failed"}, propose),
    "purge": Kind(
        lambda gate_hive: gate_hive.gate.agent_submissions.destroy("ada", DestroyRequest(purge=True), OPERATOR),
        {"withdrawn", "gone"},
        propose,
    ),
}


async def die_at(layout: Layout, kind: Kind, at: int | None) -> SimulatedCrash:
    """Carry the kind out with a daemon that dies at that crash point."""
    death = SimulatedCrash(at)
    with capture_logs():  # Tracebacks of deaths are long, and making them takes longer than all the rest.
        settings = quick(layout, **kind.settings)
        async with opened(layout, settings, born=death.born, hyperhive=kind.hyperhive) as gate_hive:
            await gate_hive.gate.verification.verify()  # Recovered.
            with death.armed():
                await death.during(kind.act(gate_hive))
                await gate_hive.gate.close()
    return death


async def live_on(layout: Layout, kind: Kind, point: str, *, thorough: bool) -> None:
    """Check the next daemon, and with `thorough` the one after that."""
    async with opened(layout, quick(layout, **kind.settings), hyperhive=kind.hyperhive) as scene:
        await scene.gate.verification.verify()
        await scene.settled()
        await scene.check()
        await check_told(scene)
        rows = await scene.rows(kind.agent)
        if point == "tags written":
            pass  # It may be as if nothing had been asked for.
        elif "gone" in kind.ends:
            assert not rows or rows[-1].state in kind.ends
        else:
            assert rows[-1].state in kind.ends
        await finish(scene)
        await scene.check()
        assert not [row for row in await scene.rows() if row.open]
        await scene.gate.updates.check_outdated()
        before = await scene.rows(), await scene.actions(kind.agent), await scene.notified("operator")
    if not thorough:
        return
    async with opened(layout, hyperhive=kind.hyperhive) as gate_hive:
        await gate_hive.check()
        assert before == (
            await gate_hive.rows(),
            await gate_hive.actions(kind.agent),
            await gate_hive.notified("operator"),
        )
        if not gate_hive.hive.agents.exists(kind.agent):
            await gate_hive.spawn(kind.agent)
        await gate_hive.deploy(kind.agent, "all is well")
        await gate_hive.check()


async def finish(gate_hive: GateHive) -> None:
    """Deny every open proposal."""
    for row in await gate_hive.rows():
        if row.open:
            assert row.waits_for is not None
            await gate_hive.deny(row.agent, row.number, OPERATOR)


async def check_told(gate_hive: GateHive) -> None:
    """Check that every party got each message that concerns it, and only once."""
    lines = {name: Counter(await gate_hive.notified(name)) for name in ("hm1nd", "ada", "bob", "operator")}
    for name, counted in lines.items():
        for line, times in counted.items():
            assert times == 1 or not line.startswith(("Proposal", "Review", "Rebuild")), (name, line, times)
    for row in await gate_hive.rows():
        asked = {"manager": "hm1nd", "operator": "operator", None: None}[row.waits_for]
        question = f"Review proposal {row.agent}/{row.number}: approve or deny it (state built)."
        assert asked is None or lines[asked][question] == 1
        if row.kind == "config" and row.state == "deployed" and gate_hive.hive.agents.exists("ada"):
            assert lines["ada"][f"Proposal ada/{row.number} is deployed."] == 1
        if row.state == "failed" and row.by == "ada" and gate_hive.hive.agents.exists("ada"):
            assert any(line.startswith(f"Proposal ada/{row.number} failed") for line in lines["ada"])


async def check_every_point(template: Template, name: str, *, all_points: bool) -> None:
    kind = KINDS[name]
    copied = template.copied
    if kind.prepare is not None:
        copied = await template.grown(kind.prepare, quick(template.layout, **kind.settings))
    whole = await die_at(copied(), kind, None)
    assert not whole.dead and "tags planted" in whole.reached
    for at, point in enumerate(whole.reached, start=1):
        if all_points or point not in LIKE_THE_STEP_BEFORE:
            layout = copied()
            death = await die_at(layout, kind, at)
            if not death.dead:  # What goes on in the background may be done with fewer steps than the first time.
                assert len(whole.reached) - 2 <= len(death.reached) < at
                continue
            await live_on(layout, kind, point, thorough=all_points or at == 1)


@pytest.mark.parametrize("name", KINDS)
async def test_a_death_between_two_steps(template: Template, name: str) -> None:
    """Whichever step was the last, all proposals end, what runs is what is deployed, and all of it is written down."""
    await check_every_point(template, name, all_points=False)


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
async def test_a_death_at_every_point(template: Template, name: str) -> None:
    """The same for the points at which only unreachable objects differ, or nothing."""
    await check_every_point(template, name, all_points=True)
