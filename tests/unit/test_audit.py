"""The audit table's chain."""

from __future__ import annotations

import sqlite3

import pytest

from hive_core import audit
from hive_core.database.migrations import migrate


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
