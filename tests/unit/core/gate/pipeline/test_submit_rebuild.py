"""The same configuration, built anew with another hyperhive."""

from __future__ import annotations

from hive_core.gate import policy
from hive_core.layout import Layout
from hive_core.protocol import HistoryQuery, RollbackRequest
from tests.unit.core.gate.gate_hive import ADA, MANAGER, OPERATOR, GateHive, opened, quick
from tests.unit.core.gate.queries import begun, refused


async def test_rebuilt(gate_hive: GateHive) -> None:
    """What is deployed is built anew and deployed under a new number, without a decision.

    What waited is withdrawn: approved later, it would have a lower number than the newest deployment.
    """
    await gate_hive.deploy("ada", "You sing.")
    before, main = gate_hive.runtime.specs["ada"].closure, gate_hive.main("ada")
    await gate_hive.built("ada", "You bake.")
    gate_hive.runtime.hyperhive = "newer"
    made = await gate_hive.rebuild("ada")
    assert (made.number, made.kind, made.commit, made.base) == (3, "rebuild", main, main)
    deployed = await gate_hive.until("ada", 3, "deployed")
    assert deployed.approvals == ["hm1nd", "as deployed/1"]
    assert gate_hive.runtime.specs["ada"].closure == deployed.closure == before + b"newer".hex()
    assert (gate_hive.main("ada"), deployed.diff) == (main, "")
    assert {f"{state}/3" for state in ("proposal", "building", "built", "approved", "deployed")} < gate_hive.tags("ada")
    history = await gate_hive.gate.queries.history("ada", HistoryQuery())
    assert [(each.number, each.kind) for each in history.deployments][:2] == [(3, "rebuild"), (1, "config")]
    waited = await gate_hive.show("ada", 2)
    assert (waited.state, waited.outcome) == ("withdrawn", policy.SUPERSEDED)
    told = [line for name in ("ada", "hm1nd", "operator") for line in await gate_hive.notified(name)]
    assert not [line for line in told if "ada/3" in line]
    await gate_hive.check()
    gate_hive.runtime.hyperhive = "newest"
    await gate_hive.rebuild("ada", MANAGER)
    assert (await gate_hive.until("ada", 4, "deployed")).approvals == ["hm1nd", "as deployed/3"]
    assert "Proposal ada/4 is deployed." in await gate_hive.notified("hm1nd")


async def test_nothing_to_deploy(gate_hive: GateHive) -> None:
    """A build that gives what runs ends the rebuild with its reason; nothing is stopped, and only who asked is told."""
    await gate_hive.rebuild("ada", MANAGER)
    gone = await gate_hive.until("ada", 1, "withdrawn")
    assert gone.outcome == policy.UP_TO_DATE
    assert ("ada", 1) not in gate_hive.runtime.activated
    assert (await gate_hive.messages("hm1nd"))[-1].startswith(
        f"Proposal ada/1 was withdrawn by system.\n\nThe reason:\n> {policy.UP_TO_DATE}\n"
    )
    assert await gate_hive.notified("ada") == []
    await gate_hive.check()


async def test_what_does_not_come_up(gate_hive: GateHive) -> None:
    """What ran before runs again, and whoever looks after the hive hears why."""
    await gate_hive.hive.lifecycle.stop("ada", "operator")
    await gate_hive.deploy("ada", "SILENT")
    await gate_hive.hive.lifecycle.start("ada", "operator")
    before = gate_hive.runtime.specs["ada"]
    gate_hive.runtime.hyperhive = "newer"
    await gate_hive.rebuild("ada")
    failed = await gate_hive.until("ada", 2, "failed")
    assert "did not report in" in failed.outcome
    assert (gate_hive.runtime.specs["ada"].closure, gate_hive.runtime.specs["ada"].deployment) == (before.closure, 1)
    assert "Proposal ada/2 failed." in await gate_hive.notified("hm1nd")
    await gate_hive.check()


async def test_who_may(gate_hive: GateHive) -> None:
    """The operator and the manager, which may have itself rebuilt, too; no other agent, not even itself."""
    assert (await refused(gate_hive.rebuild("ada", ADA))).code == "not_yours"
    assert (await refused(gate_hive.rebuild("cy"))).code == "unknown_agent"
    gate_hive.runtime.hyperhive = "newer"
    await gate_hive.rebuild("hm1nd", MANAGER)
    await gate_hive.until("hm1nd", 1, "deployed")
    await gate_hive.check()


async def test_one_at_a_time(gate_hive: GateHive) -> None:
    """A second request joins the rebuild under way; while another deployment is carried out, it is refused."""
    gate_hive.runtime.hyperhive = "newer"
    gate_hive.runtime.may_build.clear()
    await gate_hive.rebuild("ada")
    await begun(gate_hive)
    assert (await gate_hive.rebuild("ada", MANAGER)).number == 1
    gate_hive.runtime.may_build.set()
    await gate_hive.until("ada", 1, "deployed")
    await gate_hive.built("ada", "You sing.")
    gate_hive.runtime.held.clear()
    await gate_hive.approve("ada", 2)
    assert (await refused(gate_hive.rebuild("ada"))).code == "deployment_under_way"
    gate_hive.runtime.held.set()
    await gate_hive.until("ada", 2, "deployed")
    await gate_hive.check()


async def test_overtaken(gate_hive: GateHive) -> None:
    """A rebuild of what is not deployed any more is withdrawn."""
    await gate_hive.built("ada", "You sing.")
    await begun(gate_hive)
    gate_hive.runtime.may_build.clear()
    await gate_hive.rebuild("ada")
    await begun(gate_hive)
    await gate_hive.approve("ada", 1)
    await gate_hive.until("ada", 1, "deployed")
    gate_hive.runtime.may_build.set()
    assert (await gate_hive.until("ada", 2, "withdrawn")).outcome == policy.MAIN_MOVED
    await gate_hive.check()


async def test_back_to_before(gate_hive: GateHive) -> None:
    """A rollback brings back what the same commit was built to before."""
    before = gate_hive.runtime.specs["ada"].closure
    gate_hive.runtime.hyperhive = "newer"
    await gate_hive.rebuild("ada")
    await gate_hive.until("ada", 1, "deployed")
    await gate_hive.gate.decisions.rollback("ada", RollbackRequest(note="slow"), MANAGER)
    assert (await gate_hive.until("ada", 2, "deployed")).approvals == ["operator:alice", "as deployed/0"]
    assert gate_hive.runtime.specs["ada"].closure == before
    await gate_hive.check()


async def test_a_few_side_by_side(layout: Layout) -> None:
    """More than `updates_at_once` rebuilds wait for their turn, and can be taken back while they do."""
    async with opened(layout, quick(layout, nixos={"updates_at_once": 1}), hyperhive="newer") as gate_hive:
        gate_hive.runtime.may_build.clear()
        for agent in ("ada", "bob", "hm1nd"):
            await gate_hive.rebuild(agent)
        assert (await begun(gate_hive)).name == "ada"
        for agent in ("bob", "hm1nd"):
            assert (await gate_hive.show(agent, 1)).state == "proposal"
        await gate_hive.withdraw("bob", 1, OPERATOR)
        gate_hive.runtime.may_build.set()
        for agent in ("ada", "hm1nd"):
            await gate_hive.until(agent, 1, "deployed")
        assert (await gate_hive.show("bob", 1)).state == "withdrawn"
        await gate_hive.check()


async def test_not_undone_by_the_manager(gate_hive: GateHive) -> None:
    """What the operator went back to is not built anew by the manager, nor is it asked to; by the operator it is."""
    await gate_hive.deploy("ada", "You sing.")
    gate_hive.runtime.hyperhive = "newer"
    await gate_hive.rebuild("ada")
    await gate_hive.until("ada", 2, "deployed")
    await gate_hive.gate.decisions.rollback("ada", RollbackRequest(number=1, note="worse"), OPERATOR)
    await gate_hive.until("ada", 3, "deployed")
    assert (await refused(gate_hive.rebuild("ada", MANAGER))).code == "not_decider"
    await gate_hive.settled()
    await gate_hive.gate.updates.check_outdated()
    assert not [line for line in await gate_hive.notified("hm1nd") if "ada" in line and "update" in line.lower()]
    await gate_hive.rebuild("ada")
    await gate_hive.until("ada", 4, "deployed")
    await gate_hive.check()
