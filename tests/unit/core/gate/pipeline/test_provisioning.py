"""New agents and their end, by the operator at once and by the manager as proposals."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.protocol import (
    DestroyProposal,
    DestroyRequest,
    ProposalQuery,
    SpawnProposal,
    SpawnRequest,
)
from tests.unit.core.gate.gate_hive import ADA, MANAGER, OPERATOR, PATIENCE, Scene, config
from tests.unit.core.gate.queries import begun, refused


async def test_spawned_by_the_operator(scene: Scene) -> None:
    """A new agent has all tags of an ordinary proposal, and a repository of its own that begins with its commit."""
    status = await scene.gate.spawn(SpawnRequest(name="cy", start=False, config=config(model="large")), OPERATOR)
    assert (status.deployment, status.lifecycle, status.model) == (0, "stopped", "large")
    states = ("proposal", "building", "built", "approved", "deployed")
    assert scene.tags("cy") == {f"{state}/0" for state in states}
    again = scene.gate.spawn(SpawnRequest(name="cy"), OPERATOR)
    assert (await refused(again)).code == "agent_exists"
    await scene.deploy("cy")
    await scene.check()


async def test_a_spawn_that_cannot_be_built(scene: Scene) -> None:
    """Nothing of an agent is there after it; the next attempt has the next number."""
    bad = SpawnRequest(name="cy", agent_nix="{ this is not nix")
    assert (await refused(scene.gate.spawn(bad, OPERATOR))).code == "build_failed"
    assert not scene.hive.agents.exists("cy") and scene.main("cy") is None
    await scene.check()
    await scene.spawn("cy")
    assert scene.hive.agents.record("cy").deployment == 1
    await scene.check()


async def test_a_spawn_that_cannot_be_run(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that the runtime refuses is not there afterwards, and its proposal failed."""

    async def refuse(*_: object) -> None:
        raise HiveError("no_room", "there is no room")

    with monkeypatch.context() as patch:
        patch.setattr(scene.runtime, "activate", refuse)
        assert (await refused(scene.gate.spawn(SpawnRequest(name="cy"), OPERATOR))).code == "no_room"
    assert (await scene.show("cy", 0)).state == "failed"
    assert not scene.hive.agents.exists("cy")
    await scene.check()
    await scene.spawn("cy")
    await scene.check()


async def test_the_manager_proposes_an_agent(scene: Scene) -> None:
    """It is built, the operator is asked and agrees, and it is there; a denied one is not."""
    request = SpawnProposal(name="cy", note="for the night")
    assert (await refused(scene.gate.request_spawn(request, ADA))).code == "not_yours"
    await scene.gate.request_spawn(request, MANAGER)
    assert (await refused(scene.gate.request_spawn(request, MANAGER))).code == "already_proposed"
    assert (await scene.until("cy", 0, "built")).waits_for == "operator"
    assert (await scene.told("operator")) == ["Review proposal cy/0: approve or deny it (state built)."]
    assert (await refused(scene.approve("cy", 0))).code == "own_proposal"
    await scene.deny("cy", 0, OPERATOR)
    await scene.check()
    assert not scene.hive.agents.exists("cy")
    again = await scene.gate.request_spawn(request, MANAGER)
    await scene.until("cy", again.number, "built")
    await scene.approve("cy", 1, OPERATOR)
    await scene.until("cy", 1, "deployed")
    assert (await scene.told("hm1nd"))[-1] == "Proposal cy/1 is deployed."
    assert scene.hive.agents.status("cy").deployment == 1
    await scene.check()


async def test_the_operator_is_faster_than_a_proposed_spawn(scene: Scene) -> None:
    """What the manager has proposed is withdrawn when the operator makes the agent first."""
    await scene.gate.request_spawn(SpawnProposal(name="cy", note="please"), MANAGER)
    await scene.until("cy", 0, "built")
    await scene.spawn("cy")
    assert (await scene.show("cy", 0)).state == "withdrawn"
    await scene.check()


async def test_the_manager_proposes_an_end(scene: Scene) -> None:
    """There is nothing to build; what is open of the agent ends with it, and main stays."""
    main = scene.main("ada")
    await scene.built("ada")
    asked = await scene.gate.request_destroy("ada", DestroyProposal(note="idle"), MANAGER)
    assert (asked.state, asked.waits_for, asked.number) == ("built", "operator", 2)
    again = scene.gate.request_destroy("ada", DestroyProposal(note="idle"), MANAGER)
    assert (await refused(again)).code == "already_proposed"
    await scene.approve("ada", 2, OPERATOR)
    await scene.until("ada", 2, "deployed")
    assert not scene.hive.agents.exists("ada")
    assert (await scene.show("ada", 1)).state == "withdrawn"
    assert scene.main("ada") == main
    assert (await scene.told("hm1nd"))[-1] == "Proposal ada/2 is deployed."
    await scene.check()


async def test_a_proposed_purge(scene: Scene) -> None:
    """Everything goes, the proposal too; the audit table tells of it."""
    await scene.gate.request_destroy("ada", DestroyProposal(note="for good", purge=True), MANAGER)
    await scene.approve("ada", 1, OPERATOR)
    async with asyncio.timeout(PATIENCE):
        while scene.layout.applied_repository("ada").exists() or await scene.rows("ada"):
            query = ProposalQuery(unlike="approved", wait_seconds=PATIENCE)
            assert (await refused(scene.gate.show("ada", 1, query, OPERATOR))).code == "unknown_proposal"
    assert (await scene.actions("ada"))[-2:] == ["gate.approved", "destroy"]
    await scene.check()


async def test_destroyed_with_open_proposals(scene: Scene) -> None:
    """What waits is withdrawn, what is being built or deployed fails, and nothing of it goes on."""
    await scene.built("ada", "waits")
    scene.runtime.may_build.clear()
    await scene.propose("ada", "builds")
    await begun(scene), await begun(scene)
    await scene.gate.destroy("ada", DestroyRequest(), OPERATOR)
    assert [row.state for row in await scene.rows("ada")] == ["deployed", "withdrawn", "failed"]
    assert (await scene.told("hm1nd"))[-1].startswith("Proposal ada/1 was withdrawn by system")
    scene.runtime.may_build.set()
    await scene.built("bob")
    await scene.check()


async def test_destroyed_while_it_is_deployed(scene: Scene) -> None:
    """The deployment fails, and the agent is gone."""
    await scene.built("ada")
    scene.runtime.held.clear()
    await scene.approve("ada", 1)
    async with asyncio.timeout(PATIENCE):
        while ("ada", 1) not in scene.runtime.activated:
            await scene.runtime.began.get()
    await scene.gate.destroy("ada", DestroyRequest(), OPERATOR)
    assert (await scene.show("ada", 1)).state == "failed"
    assert not scene.hive.agents.exists("ada")
    await scene.check()


async def test_proposed_while_it_is_destroyed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposal whose commit is taken in while its agent goes finds no agent."""
    taking, taken = asyncio.Event(), asyncio.Event()
    real = scene.gate._proposing._intake.take

    async def slow(*arguments: Path) -> object:
        taking.set()
        await taken.wait()
        return await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scene.gate._proposing._intake, "take", slow)
    proposing = asyncio.create_task(refused(scene.propose("ada")))
    async with asyncio.timeout(PATIENCE):
        await taking.wait()
        await scene.gate.destroy("ada", DestroyRequest(), OPERATOR)
        taken.set()
        assert (await proposing).code == "unknown_agent"
    assert [row.number for row in await scene.rows("ada")] == [0]
    await scene.check()


async def test_a_new_agent_of_the_same_name_goes_on(scene: Scene) -> None:
    """Its numbers and its history go on, on top of what was deployed last."""
    await scene.deploy("ada")
    main = scene.main("ada")
    await scene.gate.destroy("ada", DestroyRequest(), OPERATOR)
    await scene.spawn("ada")
    assert scene.hive.agents.record("ada").deployment == 2
    assert scene.repository("ada").descends(scene.main("ada") or "", main or "")
    await scene.deploy("ada", "once more")
    await scene.check()


async def test_purged_and_spawned_again(scene: Scene) -> None:
    """Nothing of the earlier agent is left: the new one begins with number 0."""
    await scene.deploy("ada")
    await scene.gate.destroy("ada", DestroyRequest(purge=True), OPERATOR)
    assert await scene.rows("ada") == []
    await scene.check()
    await scene.spawn("ada")
    assert scene.hive.agents.record("ada").deployment == 0
    await scene.deploy("ada")
    await scene.check()


async def test_who_hangs_up_changes_nothing(scene: Scene) -> None:
    """A request is carried through also when its caller goes away in the middle of it."""
    scene.runtime.may_build.clear()
    calling = asyncio.create_task(scene.spawn("cy"))
    await begun(scene)
    calling.cancel()
    await asyncio.wait([calling])
    scene.runtime.may_build.set()
    await scene.until("cy", 0, "deployed")
    await scene.check()
