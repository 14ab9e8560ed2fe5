"""The vacuum when the disk is full: put off, and no reason to stop."""

from __future__ import annotations

import asyncio

import pytest

from hive_core.broker import upkeep
from hive_core.errors import HiveError


class Vacuumed:
    """Stands for the broker: its vacuum fails with these codes in turn, and then works."""

    def __init__(self, *codes: str) -> None:
        self._codes = list(codes)
        self.worked = asyncio.Event()

    async def vacuum(self, _: float) -> int:
        if self._codes:
            raise HiveError(self._codes.pop(0), "not now")
        self.worked.set()
        return 0


def vacuuming(broker: Vacuumed) -> asyncio.Task[None]:
    return asyncio.create_task(upkeep.keep_vacuumed(broker.vacuum, 14.0))


async def test_a_vacuum_on_a_full_disk_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vacuum at start must not make a full disk a loop of starts: it is put off until there is room."""
    monkeypatch.setattr(upkeep, "_RETRY_SECONDS", 0.0)
    broker = Vacuumed("disk_full", "database_busy")
    running = vacuuming(broker)
    async with asyncio.timeout(10):
        await broker.worked.wait()
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])


async def test_a_vacuum_that_fails_for_good_is_told() -> None:
    """What does not pass is not tried again and again."""
    with pytest.raises(HiveError) as failure:
        await vacuuming(Vacuumed("storage_failed"))
    assert failure.value.code == "storage_failed"
