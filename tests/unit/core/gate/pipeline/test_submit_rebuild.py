"""The same configuration, built anew with another hyperhive."""

from __future__ import annotations

from hive_core.gate import policy
from hive_core.layout import Layout
from hive_core.protocol import HistoryQuery, RollbackRequest
from tests.unit.core.gate.gate_hive import ADA, MANAGER, OPERATOR, Scene, opened, quick
from tests.unit.core.gate.queries import begun, refused


async def test_rebuilt(scene: Scene) -> None:
    """What is deployed is built anew and deployed under a new number, without a decision.

    What waited is withdrawn: approved later, it would have a lower number than the newest deployment.
    """
    await scene.deploy("ada", "You sing.")
    before, main = scene.runtime.specs["ada"].closure, scene.main("ada")
    await scene.built("ada", "You bake.")
    scene.runtime.hyperhive = "newer"
    made = await scene.rebuild("ada")
    assert (made.number, made.kind, made.commit, made.base) == (3, "rebuild", main, main)
    deployed = await scene.until("ada", 3, "deployed")
    assert deployed.approvals == ["hm1nd", "as deployed/1"]
    assert scene.runtime.specs["ada"].closure == deployed.closure == f"{before}-newer"
    assert (scene.main("ada"), deployed.diff) == (main, "")
    assert {f"{state}/3" for state in ("proposal", "building", "built", "approved", "deployed")} < scene.tags("ada")
    history = await scene.gate.history("ada", HistoryQuery())
    assert [(each.number, each.kind) for each in history.deployments][:2] == [(3, "rebuild"), (1, "config")]
    waited = await scene.show("ada", 2)
    assert (waited.state, waited.outcome) == ("withdrawn", policy.OVERTAKEN)
    told = [line for name in ("ada", "hm1nd", "operator") for line in await scene.told(name)]
    assert not [line for line in told if "ada/3" in line]
    await scene.check()
    scene.runtime.hyperhive = "newest"
    await scene.rebuild("ada", MANAGER)
    assert (await scene.until("ada", 4, "deployed")).approvals == ["hm1nd", "as deployed/3"]
    assert "Proposal ada/4 is deployed." in await scene.told("hm1nd")


async def test_nothing_to_deploy(scene: Scene) -> None:
    """A build that gives what runs ends the rebuild with its reason; nothing is stopped, and only who asked is told."""
    await scene.rebuild("ada", MANAGER)
    gone = await scene.until("ada", 1, "withdrawn")
    assert gone.outcome == policy.UP_TO_DATE
    assert ("ada", 1) not in scene.runtime.activated
    assert (await scene.told("hm1nd"))[-1] == f"Proposal ada/1 was withdrawn by system: {policy.UP_TO_DATE}"
    assert await scene.told("ada") == []
    await scene.check()


async def test_what_does_not_come_up(scene: Scene) -> None:
    """What ran before runs again, and whoever looks after the hive hears why."""
    await scene.hive.agents.stop("ada", "operator")
    await scene.deploy("ada", "SILENT")
    await scene.hive.agents.start("ada", "operator")
    before = scene.runtime.specs["ada"]
    scene.runtime.hyperhive = "newer"
    await scene.rebuild("ada")
    failed = await scene.until("ada", 2, "failed")
    assert "did not report in" in failed.outcome
    assert (scene.runtime.specs["ada"].closure, scene.runtime.specs["ada"].deployment) == (before.closure, 1)
    assert any(line.startswith("Proposal ada/2 failed: ") for line in await scene.told("hm1nd"))
    await scene.check()


async def test_who_may(scene: Scene) -> None:
    """The operator and the manager, which may have itself rebuilt, too; no other agent, not even itself."""
    assert (await refused(scene.rebuild("ada", ADA))).code == "not_yours"
    assert (await refused(scene.rebuild("cy"))).code == "unknown_agent"
    scene.runtime.hyperhive = "newer"
    await scene.rebuild("hm1nd", MANAGER)
    await scene.until("hm1nd", 1, "deployed")
    await scene.check()


async def test_one_at_a_time(scene: Scene) -> None:
    """A second request joins the rebuild under way; while another deployment is carried out, it is refused."""
    scene.runtime.hyperhive = "newer"
    scene.runtime.may_build.clear()
    await scene.rebuild("ada")
    await begun(scene)
    assert (await scene.rebuild("ada", MANAGER)).number == 1
    scene.runtime.may_build.set()
    await scene.until("ada", 1, "deployed")
    await scene.built("ada", "You sing.")
    scene.runtime.held.clear()
    await scene.approve("ada", 2)
    assert (await refused(scene.rebuild("ada"))).code == "deployment_under_way"
    scene.runtime.held.set()
    await scene.until("ada", 2, "deployed")
    await scene.check()


async def test_overtaken(scene: Scene) -> None:
    """A rebuild of what is not deployed any more is withdrawn."""
    await scene.built("ada", "You sing.")
    await begun(scene)
    scene.runtime.may_build.clear()
    await scene.rebuild("ada")
    await begun(scene)
    await scene.approve("ada", 1)
    await scene.until("ada", 1, "deployed")
    scene.runtime.may_build.set()
    assert (await scene.until("ada", 2, "withdrawn")).outcome == policy.MAIN_MOVED
    await scene.check()


async def test_back_to_before(scene: Scene) -> None:
    """A rollback brings back what the same commit was built to before."""
    before = scene.runtime.specs["ada"].closure
    scene.runtime.hyperhive = "newer"
    await scene.rebuild("ada")
    await scene.until("ada", 1, "deployed")
    await scene.gate.rollback("ada", RollbackRequest(note="slow"), MANAGER)
    assert (await scene.until("ada", 2, "deployed")).approvals == ["operator:alice", "as deployed/0"]
    assert scene.runtime.specs["ada"].closure == before
    await scene.check()


async def test_a_few_side_by_side(layout: Layout) -> None:
    """More than `updates_at_once` rebuilds wait for their turn, and can be taken back while they do."""
    async with opened(layout, quick(layout, nixos={"updates_at_once": 1}), hyperhive="newer") as scene:
        scene.runtime.may_build.clear()
        for agent in ("ada", "bob", "hm1nd"):
            await scene.rebuild(agent)
        assert (await begun(scene)).name == "ada"
        for agent in ("bob", "hm1nd"):
            assert (await scene.show(agent, 1)).state == "proposal"
        await scene.withdraw("bob", 1, OPERATOR)
        scene.runtime.may_build.set()
        for agent in ("ada", "hm1nd"):
            await scene.until(agent, 1, "deployed")
        assert (await scene.show("bob", 1)).state == "withdrawn"
        await scene.check()


async def test_not_undone_by_the_manager(scene: Scene) -> None:
    """What the operator went back to is not built anew by the manager, nor is it asked to; by the operator it is."""
    await scene.deploy("ada", "You sing.")
    scene.runtime.hyperhive = "newer"
    await scene.rebuild("ada")
    await scene.until("ada", 2, "deployed")
    await scene.gate.rollback("ada", RollbackRequest(number=1, note="worse"), OPERATOR)
    await scene.until("ada", 3, "deployed")
    assert (await refused(scene.rebuild("ada", MANAGER))).code == "not_decider"
    await scene.settled()
    await scene.gate._updates.look()
    assert not [line for line in await scene.told("hm1nd") if "ada" in line and "update" in line.lower()]
    await scene.rebuild("ada")
    await scene.until("ada", 4, "deployed")
    await scene.check()
