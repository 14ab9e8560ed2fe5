"""The size of the database, and its limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.database.database import Database
from hive_core.infra.database.space import DatabaseSpace

MIB = 1024 * 1024


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A database with a table of texts."""
    database = await Database.open(tmp_path / "hive.sqlite")
    writing = asyncio.create_task(database.run())
    await database.write(lambda db: db.execute("CREATE TABLE texts (text TEXT)").fetchone())
    yield database
    database.finish()
    await writing
    await database.close()


async def store(database: Database, *, mib: int) -> None:
    """Store texts."""
    texts = [("x" * MIB,)] * mib
    await database.write(lambda db: db.executemany("INSERT INTO texts VALUES (?)", texts).rowcount)


async def remove(database: Database, most: int) -> bool:
    """Remove texts; returns whether there were any."""
    query = "DELETE FROM texts WHERE rowid IN (SELECT rowid FROM texts LIMIT ?)"
    return await database.write(lambda db: db.execute(query, (most,)).rowcount) > 0


def refusal(space: DatabaseSpace, *, reserved: bool = False) -> str:
    """The code of the refusal, or an empty text."""
    try:
        space.check(reserved=reserved)
    except HiveError as error:
        assert error.status == 507
        return error.code
    return ""


async def test_what_is_free_in_the_file_does_not_count(database: Database) -> None:
    """Stored messages are measured, also before they leave the write-ahead log; removed ones are not."""
    space = DatabaseSpace(database, 100 * MIB)
    await store(database, mib=8)
    await space.measure()
    assert 8 * MIB <= space.used < 9 * MIB
    await remove(database, 4)
    await space.measure()
    assert 4 * MIB <= space.used < 5 * MIB


async def test_accepted_messages_count_before_they_are_measured(database: Database) -> None:
    """A burst between two measurements cannot exceed the limit, and each message counts once."""
    space = DatabaseSpace(database, 4 * MIB)
    await space.measure()
    accepted = 0
    while not refusal(space):
        space.add(MIB // 4)
        accepted += 1
    assert accepted <= 16
    await space.measure()
    assert space.used < MIB


async def test_the_reserve_is_for_the_operator(database: Database) -> None:
    """Past the limit there is another tenth for the operator, and no more."""
    space = DatabaseSpace(database, 10 * MIB)
    space.add(10 * MIB)
    assert (refusal(space), refusal(space, reserved=True)) == ("database_full", "")
    space.add(MIB)
    assert refusal(space, reserved=True) == "database_full"


async def test_warned_once_and_pruned(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 % there is one warning, at 90 % what can be spared goes; after a calm time there is another warning."""
    monkeypatch.setattr("hive_core.infra.database.space._PAUSE_SECONDS", 0.01)
    space, warnings, spared = DatabaseSpace(database, 20 * MIB), [], 0

    async def warn(text: str) -> None:
        warnings.append(text)

    async def prune() -> bool:
        nonlocal spared
        spared += 1
        return await remove(database, 1)

    async def settle(mib: int) -> None:
        await store(database, mib=mib)
        space.touch()
        await asyncio.sleep(0.3)

    running = asyncio.create_task(space.run(prune, warn))
    await settle(15)
    assert (warnings, spared) == ([], 0)
    await settle(2)
    assert (len(warnings), spared) == (1, 0)
    assert "has reached 8" in warnings[0].splitlines()[0]
    await settle(2)
    assert len(warnings) == 1 and space.used < 17.5 * MIB and spared >= 2
    await remove(database, 8)
    await settle(1)
    await settle(7)
    assert len(warnings) == 2
    running.cancel()
    await asyncio.wait([running])


async def test_nothing_is_spared_twice(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruning that left nothing is tried again after a message or some time, and not after a commit."""
    monkeypatch.setattr("hive_core.infra.database.space._PAUSE_SECONDS", 0.01)
    space, tried = DatabaseSpace(database, 10 * MIB), 0
    database.committed.append(space.touch)

    async def warn(_: str) -> None: ...

    async def prune() -> bool:
        nonlocal tried
        tried += 1
        return await database.write(lambda db: False)  # A commit, as every attempt is.

    await store(database, mib=10)
    running = asyncio.create_task(space.run(prune, warn))
    await asyncio.sleep(0.3)
    assert tried == 1
    await store(database, mib=0)
    await asyncio.sleep(0.3)
    assert tried == 1
    space.add(1)
    await asyncio.sleep(0.3)
    assert tried == 2
    monkeypatch.setattr("hive_core.infra.database.space._NOTHING_LEFT_SECONDS", 0.05)
    space.add(1)
    await asyncio.sleep(0.5)
    assert tried > 3
    running.cancel()
    await asyncio.wait([running])
