"""From a proposal to its end, over real repositories, with a real database and real builds."""

from __future__ import annotations

import shutil

import pytest

from hive_core.errors import HiveError
from hive_core.gate import policy
from hive_core.layout import Layout
from hive_core.protocol import (
    HistoryQuery,
    LogsQuery,
    ProposeRequest,
    WithdrawRequest,
)
from tests.unit.core.gate.gate_hive import ADA, BOB, MANAGER, Scene, opened, quick
from tests.unit.core.gate.queries import begun, prompt, refused


async def test_a_proposal_is_built_approved_and_deployed(scene: Scene) -> None:
    """Every step has its tag, row and message; main moves with the deployment and what runs is what was approved."""
    before = scene.main("ada")
    proposal = await scene.propose("ada", "You sing.")
    assert (proposal.state, proposal.number, proposal.by, proposal.base) == ("proposal", 1, "ada", before)
    built = await scene.until("ada", 1, "built")
    assert built.waits_for == "manager" and built.closure and "You sing." in built.diff
    assert scene.main("ada") == before
    assert any("prompt.md" in line for line in built.closure_changes)
    assert await scene.told("hm1nd") == ["Review proposal ada/1: approve or deny it (state built)."]
    approved = await scene.approve("ada", 1)
    assert (approved.approvals, approved.outcome) == (["hm1nd"], "fine")
    deployed = await scene.until("ada", 1, "deployed")
    assert scene.main("ada") == deployed.commit == proposal.commit
    assert scene.tags("ada") >= {f"{state}/1" for state in ("proposal", "building", "built", "approved", "deployed")}
    assert prompt(scene, "ada") == "You sing.\n"
    assert scene.runtime.specs["ada"].closure == built.closure
    for name in ("hm1nd", "ada"):
        assert (await scene.told(name))[-1] == "Proposal ada/1 is deployed."
    log = await scene.gate.build_log("ada", 1, LogsQuery(lines=10), ADA)
    assert log.lines[-1].endswith(f"built {built.closure}")
    history = await scene.gate.history("ada", HistoryQuery())
    assert [(each.number, each.current) for each in history.deployments] == [(1, True), (0, False)]
    await scene.check()


async def test_where_nothing_can_be_built_nothing_is_begun(scene: Scene) -> None:
    """Proposals, spawns and rebuilds are refused with what is missing, and leave no trace; later the same goes well."""
    scene.runtime.unable = HiveError("no_build_user", "builds do not work", hint="start the Nix daemon", status=503)
    sha = scene.commit("ada", {"prompt.md": "You sing.\n"}, on=scene.main("ada"))
    asked = ProposeRequest(commit=sha, note="I like to sing")
    for request in (scene.gate.propose(asked, ADA), scene.spawn("eve"), scene.rebuild("ada")):
        assert (await refused(request)).code == "no_build_user"
    assert not any(tag.endswith("/1") for tag in scene.tags("ada"))
    assert not scene.layout.applied_repository("eve").exists()
    scene.runtime.unable = None
    assert (await scene.gate.propose(asked, ADA)).number == 1
    await scene.until("ada", 1, "built")
    await scene.spawn("eve")


async def test_what_cannot_be_built_fails(scene: Scene) -> None:
    """A build that does not succeed ends the proposal with the reason, told to who proposed; nothing else changes."""
    sha = scene.commit("ada", {"agent.nix": "{ this is not nix"})
    await scene.gate.propose(ProposeRequest(commit=sha, note="oops"), ADA)
    failed = await scene.until("ada", 1, "failed")
    assert "agent.nix" in failed.outcome
    assert (await scene.told("ada"))[0].startswith("Proposal ada/1 failed: ")
    assert await scene.told("hm1nd") == []
    assert scene.runtime.specs["ada"].deployment == 0
    await scene.check()


@pytest.mark.parametrize(
    ("role", "why"),
    [("SILENT", "did not report in"), ("CRASHES", "exit code 7"), ("STALE", "deployment 0 instead of 1")],
)
async def test_what_does_not_come_up_is_put_back(scene: Scene, role: str, why: str) -> None:
    """What was deployed before runs again, main stays, and everybody concerned hears why."""
    before = scene.main("ada")
    await scene.built("ada", role)
    await scene.approve("ada", 1)
    failed = await scene.until("ada", 1, "failed")
    assert why in failed.outcome and "its last words" in failed.outcome
    assert scene.main("ada") == before
    assert [number for name, number in scene.runtime.activated if name == "ada"] == [1, 0]
    for name in ("ada", "hm1nd"):
        assert (await scene.told(name))[-1].startswith("Proposal ada/1 failed: ")
    await scene.check()


async def test_an_error_of_the_hives_own_ends_the_proposal(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised while building or deploying, the proposal fails and the agent runs as before."""

    async def broken(*_: object) -> str:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(scene.runtime, "compare", broken)
        await scene.propose("ada", "one")
        assert "ZeroDivisionError" in (await scene.until("ada", 1, "failed")).outcome
    await scene.built("ada", "two")
    monkeypatch.setattr(scene.hive.agents, "wait_healthy", broken)
    await scene.approve("ada", 2)
    assert "ZeroDivisionError" in (await scene.until("ada", 2, "failed")).outcome
    await scene.check()


async def test_a_closure_that_is_gone_is_not_deployed(scene: Scene) -> None:
    """An approved proposal of which the build is gone fails without stopping what runs."""
    built = await scene.built("ada")
    assert built.closure
    shutil.rmtree(built.closure)
    await scene.approve("ada", 1)
    assert "is gone" in (await scene.until("ada", 1, "failed")).outcome
    assert ("ada", 1) not in scene.runtime.activated
    await scene.check()


async def test_a_stopped_agent_is_deployed_and_stays_stopped(scene: Scene) -> None:
    """Nothing has to come up of an agent that is not to run; its next start is on the new deployment."""
    await scene.hive.agents.stop("ada", "operator")
    await scene.deploy("ada", "SILENT")
    assert "ada" not in scene.runtime.running
    await scene.hive.agents.start("ada", "operator")
    assert prompt(scene, "ada") == "SILENT\n"
    await scene.check()


async def test_denied(scene: Scene) -> None:
    """A denial ends a proposal and tells who proposed it why."""
    await scene.built("ada")
    assert (await scene.deny("ada", 1)).state == "denied"
    assert (await scene.told("ada"))[-1] == "Proposal ada/1 was denied by hm1nd: too risky"
    await scene.check()


async def test_withdrawn(scene: Scene) -> None:
    """Who proposed may take it back, once; who was asked hears of it, others may not."""
    await scene.built("ada")
    request = WithdrawRequest(note="changed my mind")
    assert (await refused(scene.gate.withdraw("ada", 1, request, BOB))).code == "unknown_proposal"
    assert (await refused(scene.gate.withdraw("ada", 1, request, MANAGER))).code == "not_yours"
    assert (await scene.gate.withdraw("ada", 1, request, ADA)).state == "withdrawn"
    assert (await scene.told("hm1nd"))[-1] == "Proposal ada/1 was withdrawn by ada: changed my mind"
    assert await scene.told("ada") == []
    assert (await refused(scene.gate.withdraw("ada", 1, request, ADA))).code == "stale_state"
    await scene.check()


async def test_a_build_under_way_is_not_withdrawn(scene: Scene) -> None:
    """While it is built a proposal cannot be taken back; the refusal says to wait."""
    scene.runtime.may_build.clear()
    await scene.propose("ada")
    await begun(scene)
    assert (await refused(scene.gate.withdraw("ada", 1, WithdrawRequest(), ADA))).code == "stale_state"
    scene.runtime.may_build.set()
    await scene.until("ada", 1, "built")
    await scene.gate.withdraw("ada", 1, WithdrawRequest(), ADA)
    await scene.check()


async def test_nobody_decided_in_time(layout: Layout) -> None:
    """A proposal that waited for too long is withdrawn by the hive."""
    async with opened(layout, quick(layout, proposal_days=0.2 / 86_400)) as scene:
        await scene.built("ada")
        gone = await scene.until("ada", 1, "withdrawn")
        assert gone.outcome == policy.EXPIRED
        assert (await scene.told("ada"))[-1].startswith("Proposal ada/1 was withdrawn by system: ")
        await scene.check()


async def test_a_deployment_withdraws_what_was_proposed_on_the_old_one(scene: Scene) -> None:
    """Both what waits and what is being built; the proposers and those asked are told to look no more."""
    await scene.built("ada", "first")
    await scene.built("ada", "second")
    scene.runtime.may_build.clear()
    await scene.propose("ada", "third")
    await begun(scene), await begun(scene), await begun(scene)
    await scene.approve("ada", 1)
    await scene.until("ada", 1, "deployed")
    assert (await scene.show("ada", 2)).outcome == policy.MAIN_MOVED
    scene.runtime.may_build.set()
    assert (await scene.until("ada", 3, "withdrawn")).outcome == policy.MAIN_MOVED
    for name in ("ada", "hm1nd"):
        assert sum(line.startswith("Proposal ada/2 was withdrawn by system") for line in await scene.told(name)) == 1
    await scene.check()
