"""How refusals are summed up in the audit table once a caller has had many of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hive_core.database import Database
from hive_core.errors import HiveError, not_found
from hive_core.sockets.endpoint import Caller
from hive_core.sockets.refusals import Refusals

PER_MINUTE = 30
ANN = Caller("ann", "agent", "agent:ann")
BOB = Caller("bob", "agent", "agent:bob")
ERROR = not_found("not_found", "there is nothing at this path")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database with its writer at work."""
    opened = await Database.open(tmp_path / "hive.sqlite")
    writing = asyncio.create_task(opened.run())
    yield opened
    opened.finish()
    await writing
    await opened.close()


async def written(database: Database) -> list[tuple[str, str, object]]:
    """Actor, outcome and detail of every row."""
    rows = await database.read(lambda db: db.execute("SELECT actor, outcome, detail FROM audit ORDER BY id").fetchall())
    return [(actor, outcome, json.loads(detail)) for actor, outcome, detail in rows]


async def test_left_out_are_counted(database: Database) -> None:
    """After 30 in a minute the rest are left out, and the next minute's first row tells how many."""
    now = 1_000.0
    refusals = Refusals(database, lambda: now)
    for _ in range(PER_MINUTE + 12):
        await refusals.note(ANN, "GET /", ERROR)
    await refusals.note(BOB, "GET /", ERROR)
    now += 59.9
    await refusals.note(ANN, "GET /", ERROR)
    now += 0.2
    for _ in range(2):
        await refusals.note(ANN, "GET /", ERROR)
    assert await written(database) == [
        *[("agent:ann", "not_found", {})] * PER_MINUTE,
        ("agent:bob", "not_found", {}),
        ("agent:ann", "not_found", {"left_out_before": 13}),
        ("agent:ann", "not_found", {}),
    ]


async def test_harmless_ones_are_not_written(database: Database) -> None:
    """What happens in good order, and the daemon's own failures, are no refusals to be audited."""
    refusals = Refusals(database)
    for code, status in (("superseded", 409), ("stopping", 503), ("internal", 500)):
        await refusals.note(ANN, "GET /", HiveError(code, "x", status=status))
    assert await written(database) == []
