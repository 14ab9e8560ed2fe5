"""The build of a proposal, over real repositories."""

from __future__ import annotations

import asyncio

import pytest

from hive_core.errors import HiveError
from hive_core.gate.pipeline import build
from tests.unit.core.gate.gate_hive import GateHive


async def test_a_host_that_builds_nothing_fails_no_proposal(
    gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken in while builds worked, it waits while they do not, in the state that it has, and is built afterwards."""
    monkeypatch.setattr(build, "_CHECK_SECONDS", 0.01)
    calls = 0

    async def check_can_build() -> None:
        nonlocal calls
        calls += 1
        if 1 < calls < 5:
            raise HiveError("no_build_user", "builds do not work", status=503)

    monkeypatch.setattr(gate_hive.runtime, "check_can_build", check_can_build)
    proposal = await gate_hive.propose("ada", "You sing.")
    assert proposal.state == "proposal"
    built = await gate_hive.until("ada", proposal.number, "built")
    assert (calls, built.outcome) == (5, "")
    await gate_hive.check()


async def test_differences_that_take_too_long_are_a_reason_to_deny(
    gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison that does not end holds up no decision: the proposal is built, and reviewers read that they see
    nothing of it.
    """

    async def endless(*_: object) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(build, "_COMPARE_SECONDS", 0.01)
    monkeypatch.setattr(gate_hive.runtime, "compare", endless)
    proposal = await gate_hive.propose("ada", "You sing.")
    built = await gate_hive.until("ada", proposal.number, "built")
    assert built.waits_for is not None
    assert built.closure_changes == [build._NOT_COMPARED]
    assert "a reason to deny" in build._NOT_COMPARED
    await gate_hive.check()
