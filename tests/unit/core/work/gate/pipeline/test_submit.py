"""The space of the work for a repository, which its agents share."""

from __future__ import annotations

import os

import pytest

from hive_core.errors import HiveError
from hive_core.layout import Layout
from hive_core.work.gate.pipeline import submit
from tests.unit.core.work.gate.work_hive import ADA, BOB, WorkHive, opened

KIB = 1024


async def _submit(hive: WorkHive, name: str) -> int:
    principal = {"ada": ADA, "bob": BOB}[name]
    work = await hive.submit(hive.commit({"data": os.urandom(200 * KIB)}, name), principal)
    return (await hive.until(work.number, "built")).number


async def test_one_agent_cannot_take_the_space_of_others(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that has filled its part of the space is refused until its ended work is removed; others go on."""
    async with opened(layout, work_space=KIB * KIB) as hive:
        made = [await _submit(hive, "ada") for _ in range(3)]
        for _ in range(2):
            with pytest.raises(HiveError) as full:
                await _submit(hive, "ada")
            assert full.value.code == "proposal_space_full"
        assert "the work of ada for web takes up 60" in full.value.message
        await _submit(hive, "bob")
        with pytest.raises(HiveError, match="the work of bob for web takes up 20"):
            await _submit(hive, "bob")
        for number in made:
            await hive.withdraw(number)
        monkeypatch.setattr(submit, "_PRUNED_DAYS", 0)
        hive.gate.pruning._not_before.clear()
        await _submit(hive, "ada")
        assert await hive.gate.pruning.size_of("web", "ada") < 300 * KIB
        await hive.check()
