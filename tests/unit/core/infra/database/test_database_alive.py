"""When the watchdog counts the database as alive."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.database.database import Database


async def test_a_writer_that_refuses_for_want_of_room_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart would not make room, so the watchdog is fed; for a writer that is gone it is not."""
    database = await Database.open(tmp_path / "hive.sqlite")
    writing = asyncio.create_task(database.run())
    await database.check()
    await database.alive()

    async def full(_: object) -> None:
        raise HiveError("disk_full", "no room", status=507)

    with monkeypatch.context() as patched:
        patched.setattr(database, "write", full)
        await database.alive()
        with pytest.raises(HiveError, match="no room"):
            await database.check()
    database.finish()
    await writing
    with pytest.raises(HiveError) as refusal:
        await database.alive()
    assert refusal.value.code == "stopping"
    await database.close()
