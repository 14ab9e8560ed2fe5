"""How refusals are summed up in the audit table once a caller has had many of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hive_core.api.endpoint import Caller
from hive_core.api.refusal_audit import RefusalAudit
from hive_core.errors import HiveError, not_found
from hive_core.infra.database.database import Database

PER_MINUTE = 30
ERROR = not_found("not_found", "there is nothing at this path")


def caller(name: str) -> Caller:
    """An agent."""
    return Caller(name, "agent", lambda: f"agent:{name}")


ANN = caller("ann")
BOB = caller("bob")


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
    """After 30 in a minute the rest are left out, and after that minute a row tells how many."""
    now = 1_000.0
    refusal_audit = RefusalAudit(database, lambda: now)
    for _ in range(PER_MINUTE + 12):
        await refusal_audit.record_refusal(ANN, "GET /", ERROR)
    await refusal_audit.record_refusal(BOB, "GET /", ERROR)
    now += 59.9
    await refusal_audit.record_refusal(ANN, "GET /", ERROR)
    now += 0.2
    for _ in range(2):
        await refusal_audit.record_refusal(ANN, "GET /", ERROR)
    assert await written(database) == [
        *[("agent:ann", "not_found", {})] * PER_MINUTE,
        ("agent:bob", "not_found", {}),
        ("agent:ann", "left_out", {"left_out": 13}),
        *[("agent:ann", "not_found", {})] * 2,
    ]


@pytest.mark.parametrize("stopping", [False, True])
async def test_left_out_are_counted_without_another_refusal(database: Database, stopping: bool) -> None:
    """The count is written when the minute is over, or the daemon stops, also if the caller never comes again."""
    now = 1_000.0
    refusal_audit = RefusalAudit(database, lambda: now)
    for _ in range(PER_MINUTE + 1):
        await refusal_audit.record_refusal(ANN, "GET /", ERROR)
    await refusal_audit.report_left_out()
    assert len(await written(database)) == PER_MINUTE
    now += 0 if stopping else 60
    for _ in range(2):
        await refusal_audit.report_left_out(all_callers=stopping)
    assert (await written(database))[PER_MINUTE:] == [("agent:ann", "left_out", {"left_out": 1})]


async def test_few_callers_are_remembered(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many callers cannot use up the daemon's memory; no count is lost when one is forgotten."""
    monkeypatch.setattr("hive_core.api.refusal_audit._CALLERS", 3)
    refusal_audit = RefusalAudit(database, lambda: 1_000.0)
    for _ in range(PER_MINUTE + 2):
        await refusal_audit.record_refusal(ANN, "GET /", ERROR)
    for number in range(3):
        await refusal_audit.record_refusal(caller(f"a{number}"), "GET /", ERROR)
    assert ("agent:ann", "left_out", {"left_out": 2}) in await written(database)
    await refusal_audit.record_refusal(ANN, "GET /", ERROR)
    assert (await written(database))[-1] == ("agent:ann", "not_found", {})


async def test_harmless_ones_are_not_written(database: Database) -> None:
    """What happens in good order, and the daemon's own failures, are no refusals to be audited."""
    refusal_audit = RefusalAudit(database)
    for code, status in (("superseded", 409), ("stopping", 503), ("internal", 500)):
        await refusal_audit.record_refusal(ANN, "GET /", HiveError(code, "x", status=status))
    assert await written(database) == []
