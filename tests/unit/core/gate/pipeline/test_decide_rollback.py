"""Older deployments come back."""

from __future__ import annotations

from hive_core.layout import Layout
from hive_core.protocol import (
    RollbackRequest,
)
from tests.unit.core.gate.gate_hive import ADA, MANAGER, OPERATOR, GateHive, opened, quick
from tests.unit.core.gate.queries import begun, prompt, refused


async def test_rollback(gate_hive: GateHive) -> None:
    """An older deployment comes back under a number of its own, without a build; what waits is withdrawn."""
    await gate_hive.deploy("ada", "first")
    await gate_hive.deploy("ada", "second")
    await gate_hive.built("ada", "third")
    since = await gate_hive.gate.queries.changes_since("ada", 1)
    assert (since.current, [file.path for file in since.files], since.settings) == (2, ["prompt.md"], [])
    assert "-first\n+second\n" in since.diff
    assert (await refused(gate_hive.gate.queries.changes_since("ada", 3))).code == "unknown_deployment"
    orders = gate_hive.runtime.orders.qsize()
    back = await gate_hive.gate.decisions.rollback("ada", RollbackRequest(note="worse"), MANAGER)
    assert (back.number, back.kind) == (4, "rollback")
    deployed = await gate_hive.until("ada", 4, "deployed")
    assert prompt(gate_hive, "ada") == "first\n"
    assert deployed.approvals == ["hm1nd", "as deployed/1"]
    assert gate_hive.runtime.orders.qsize() == orders
    assert (await gate_hive.show("ada", 3)).state == "withdrawn"
    await gate_hive.gate.decisions.rollback("ada", RollbackRequest(note="to the beginning", number=0), OPERATOR)
    await gate_hive.until("ada", 5, "deployed")
    same = gate_hive.gate.decisions.rollback("ada", RollbackRequest(note="again", number=0), OPERATOR)
    assert (await refused(same)).code == "nothing_changed"
    for number in (3, 9):
        request = RollbackRequest(note="to nothing", number=number)
        assert (await refused(gate_hive.gate.decisions.rollback("ada", request, MANAGER))).code == "unknown_deployment"
    assert (
        await refused(gate_hive.gate.decisions.rollback("ada", RollbackRequest(note="me"), ADA))
    ).code == "not_decider"
    await gate_hive.check()


async def test_a_rollback_to_what_is_gone(layout: Layout) -> None:
    """Of a deployment that is not kept any more, the refusal says how many are."""
    async with opened(layout, quick(layout, kept_deployments=1)) as gate_hive:
        await gate_hive.deploy("ada", "first")
        await gate_hive.deploy("ada", "second")
        refusal = await refused(gate_hive.gate.decisions.rollback("ada", RollbackRequest(note="back"), OPERATOR))
        assert refusal.code == "closure_gone" and "1 deployments are kept" in refusal.hint
        await gate_hive.check()


async def test_a_rollback_that_does_not_come_up(gate_hive: GateHive) -> None:
    """It is undone like any other deployment."""
    await gate_hive.hive.lifecycle.stop("ada", "operator")
    await gate_hive.deploy("ada", "SILENT")
    await gate_hive.hive.lifecycle.start("ada", "operator")
    await gate_hive.deploy("ada", "You help.")
    await gate_hive.gate.decisions.rollback("ada", RollbackRequest(note="back"), OPERATOR)
    await gate_hive.until("ada", 3, "failed")
    assert prompt(gate_hive, "ada") == "You help.\n"
    await gate_hive.check()


async def test_an_old_base_that_is_back_is_still_old(gate_hive: GateHive) -> None:
    """A build that outlives two deployments is withdrawn, though main is where it was when it was proposed."""
    await gate_hive.deploy("ada", "first")
    gate_hive.runtime.may_build.clear()
    while not gate_hive.runtime.orders.empty():
        gate_hive.runtime.orders.get_nowait()
    await gate_hive.propose("ada", "slow")
    await begun(gate_hive)
    for number in (0, 1):
        back = await gate_hive.gate.decisions.rollback("ada", RollbackRequest(note="back", number=number), OPERATOR)
        await gate_hive.until("ada", back.number, "deployed")
    gate_hive.runtime.may_build.set()
    await gate_hive.until("ada", 2, "withdrawn")
    await gate_hive.check()
