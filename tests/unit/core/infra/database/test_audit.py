"""The audit table's chain."""

from __future__ import annotations

import sqlite3

import pytest

from hive_core.infra.database import audit
from hive_core.infra.database.migrations import migrate


@pytest.fixture
def db() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    for number in range(5):
        audit.append(connection, actor="operator:eva", action="start", subject=f"a{number}", detail={"n": number})
    return connection


def test_an_untouched_chain_is_whole(db: sqlite3.Connection) -> None:
    """Rows that were only appended verify."""
    assert audit.first_broken_row(db) is None


@pytest.mark.parametrize("column", ["at", "actor", "action", "subject", "outcome", "detail", "previous", "hash"])
def test_a_changed_row_is_found(db: sqlite3.Connection, column: str) -> None:
    """Whatever is changed in a row, the chain breaks there."""
    db.execute(f"UPDATE audit SET {column} = {column} || '1' WHERE id = 3")
    assert audit.first_broken_row(db) == 3


def test_a_removed_row_is_found(db: sqlite3.Connection) -> None:
    """A row cannot be taken out of the chain, not even with its id closed up."""
    db.execute("DELETE FROM audit WHERE id = 2")
    assert audit.first_broken_row(db) == 3
    db.execute("UPDATE audit SET id = id - 1 WHERE id > 2")
    assert audit.first_broken_row(db) == 2


def test_rows_are_read_newest_first_and_in_parts(db: sqlite3.Connection) -> None:
    """A page ends at its limit; `before` its last row comes the next, down to the first row there is."""
    first = audit.rows(db, limit=3)
    assert [row.id for row in first] == [5, 4, 3]
    assert [row.id for row in audit.rows(db, limit=3, before=3)] == [2, 1]
    assert audit.rows(db, before=1) == []
    told = first[0]
    assert (told.actor, told.action, told.subject, told.outcome) == ("operator:eva", "start", "a4", "ok")
    assert told.detail == {"n": 4} and told.at.tzinfo is not None
    assert db.execute("SELECT hash FROM audit WHERE id = 5").fetchone() == (told.hash,)


def test_rows_about_one_subject(db: sqlite3.Connection) -> None:
    """Only what was done to that agent is shown."""
    audit.append(db, actor="operator:eva", action="stop", subject="a1")
    assert [row.action for row in audit.rows(db, subject="a1")] == ["stop", "start"]
    assert [row.action for row in audit.rows(db, subject="a1", before=6)] == ["start"]
    assert audit.rows(db, subject="nobody") == []


def test_long_details_make_a_page_short(db: sqlite3.Connection) -> None:
    """However long rows are, an answer stays small; one row always fits."""
    for _ in range(3):
        audit.append(db, actor="a", action="b", subject="c", detail={"note": "x" * 3_000_000})
    assert [row.id for row in audit.rows(db)] == [8]
    assert [row.id for row in audit.rows(db, before=7)] == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("detail", ["{", "[1]", ""])
def test_a_spoilt_row_can_be_looked_at(db: sqlite3.Connection, detail: str) -> None:
    """Whoever looks for what was tampered with is shown it as it is."""
    db.execute("UPDATE audit SET detail = ? WHERE id = 5", (detail,))
    assert audit.rows(db, limit=1)[0].detail == {"unreadable": detail}
