"""Older deployments come back."""

from __future__ import annotations

from hive_core.layout import Layout
from hive_core.protocol import (
    RollbackRequest,
)
from tests.unit.core.gate.gate_hive import ADA, MANAGER, OPERATOR, Scene, opened, quick
from tests.unit.core.gate.queries import begun, prompt, refused


async def test_rollback(scene: Scene) -> None:
    """An older deployment comes back under a number of its own, without a build; what waits is withdrawn."""
    await scene.deploy("ada", "first")
    await scene.deploy("ada", "second")
    await scene.built("ada", "third")
    orders = scene.runtime.orders.qsize()
    back = await scene.gate.rollback("ada", RollbackRequest(note="worse"), MANAGER)
    assert (back.number, back.kind) == (4, "rollback")
    deployed = await scene.until("ada", 4, "deployed")
    assert prompt(scene, "ada") == "first\n"
    assert deployed.approvals == ["hm1nd", "as deployed/1"]
    assert scene.runtime.orders.qsize() == orders
    assert (await scene.show("ada", 3)).state == "withdrawn"
    await scene.gate.rollback("ada", RollbackRequest(note="to the beginning", number=0), OPERATOR)
    await scene.until("ada", 5, "deployed")
    same = scene.gate.rollback("ada", RollbackRequest(note="again", number=0), OPERATOR)
    assert (await refused(same)).code == "nothing_changed"
    for number in (3, 9):
        request = RollbackRequest(note="to nothing", number=number)
        assert (await refused(scene.gate.rollback("ada", request, MANAGER))).code == "unknown_deployment"
    assert (await refused(scene.gate.rollback("ada", RollbackRequest(note="me"), ADA))).code == "not_decider"
    await scene.check()


async def test_a_rollback_to_what_is_gone(layout: Layout) -> None:
    """Of a deployment that is not kept any more, the refusal says how many are."""
    async with opened(layout, quick(layout, kept_deployments=1)) as scene:
        await scene.deploy("ada", "first")
        await scene.deploy("ada", "second")
        refusal = await refused(scene.gate.rollback("ada", RollbackRequest(note="back"), OPERATOR))
        assert refusal.code == "closure_gone" and "1 deployments are kept" in refusal.hint
        await scene.check()


async def test_a_rollback_that_does_not_come_up(scene: Scene) -> None:
    """It is undone like any other deployment."""
    await scene.hive.agents.stop("ada", "operator")
    await scene.deploy("ada", "SILENT")
    await scene.hive.agents.start("ada", "operator")
    await scene.deploy("ada", "You help.")
    await scene.gate.rollback("ada", RollbackRequest(note="back"), OPERATOR)
    await scene.until("ada", 3, "failed")
    assert prompt(scene, "ada") == "You help.\n"
    await scene.check()


async def test_an_old_base_that_is_back_is_still_old(scene: Scene) -> None:
    """A build that outlives two deployments is withdrawn, though main is where it was when it was proposed."""
    await scene.deploy("ada", "first")
    scene.runtime.may_build.clear()
    while not scene.runtime.orders.empty():
        scene.runtime.orders.get_nowait()
    await scene.propose("ada", "slow")
    await begun(scene)
    for number in (0, 1):
        back = await scene.gate.rollback("ada", RollbackRequest(note="back", number=number), OPERATOR)
        await scene.until("ada", back.number, "deployed")
    scene.runtime.may_build.set()
    await scene.until("ada", 2, "withdrawn")
    await scene.check()
