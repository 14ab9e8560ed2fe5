"""The daemon's upkeep when the disk is full: put off, and no reason to stop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from hive_core import daemon
from hive_core.broker import Broker
from hive_core.errors import HiveError
from hive_core.settings import Settings


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


def vacuuming(tmp_path: Path, broker: Vacuumed) -> asyncio.Task[None]:
    hive = daemon.Daemon(Settings(state_dir=tmp_path))
    return asyncio.create_task(hive._vacuum(cast(Broker, broker)))


async def test_a_vacuum_on_a_full_disk_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vacuum at start must not make a full disk a loop of starts: it is put off until there is room."""
    monkeypatch.setattr(daemon, "_VACUUM_RETRY_SECONDS", 0.0)
    broker = Vacuumed("disk_full", "database_busy")
    running = vacuuming(tmp_path, broker)
    async with asyncio.timeout(10):
        await broker.worked.wait()
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])


async def test_a_vacuum_that_fails_for_good_is_told(tmp_path: Path) -> None:
    """What does not pass is not tried again and again."""
    with pytest.raises(HiveError) as failure:
        await vacuuming(tmp_path, Vacuumed("storage_failed"))
    assert failure.value.code == "storage_failed"


@pytest.mark.parametrize(("code", "alive"), [("disk_full", True), ("database_busy", True), ("stopping", False)])
async def test_a_writer_that_refuses_is_alive(code: str, alive: bool) -> None:
    """The watchdog is fed by a writer that answers, also with a refusal that passes; not for one that is gone."""

    async def write() -> None:
        raise HiveError(code, "no")

    if alive:
        await daemon._answers(write)
        return
    with pytest.raises(HiveError):
        await daemon._answers(write)
