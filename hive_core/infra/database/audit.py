"""The audit table: who did or tried what, as a chain in which no row can be changed or taken out unseen.

Each row's hash covers its content and the hash of the row before it. Rows are appended inside the transaction of
what they tell of.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping

from hive_core.infra.database.database import milliseconds, to_datetime
from hive_core.protocol import AuditRow

GENESIS = "0" * 64
_COLUMNS = "id, at, actor, action, subject, outcome, detail, previous"

_READ_BYTES = 4 * 1024 * 1024


def append(
    connection: sqlite3.Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    outcome: str = "ok",
    detail: Mapping[str, object] | None = None,
) -> None:
    """Add one row. `outcome` is `ok` or an error code; `detail` must hold no secret and no message body."""
    last = connection.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    number, previous = (last[0] + 1, last[1]) if last else (1, GENESIS)
    text = json.dumps(detail or {}, sort_keys=True, ensure_ascii=True)
    row = (number, milliseconds(), actor, action, subject, outcome, text, previous)
    connection.execute(f"INSERT INTO audit ({_COLUMNS}, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, _hash(row)))  # noqa: S608


def first_broken_row(connection: sqlite3.Connection) -> int | None:
    """The id of the first row that does not fit the chain, or None if all do.

    Rows cut off at the very end cannot be seen from the table alone.
    """
    expected_id, previous = 1, GENESIS
    for *row, digest in connection.execute(f"SELECT {_COLUMNS}, hash FROM audit ORDER BY id"):  # noqa: S608
        if row[0] != expected_id or row[-1] != previous or digest != _hash(tuple(row)):
            return int(row[0])
        expected_id, previous = expected_id + 1, digest
    return None


def rows(
    connection: sqlite3.Connection, *, subject: str | None = None, limit: int = 100, before: int | None = None
) -> list[AuditRow]:
    """The newest `limit` rows with an id below `before`, the newest first; only those about `subject`, if it is given.

    Fewer if their details have more than 4 MiB, but at least one if there is any.
    """
    query = """SELECT id, at, actor, action, subject, outcome, detail, hash FROM audit
        WHERE id < :before AND (:subject IS NULL OR subject = :subject) ORDER BY id DESC LIMIT :limit"""
    found: list[AuditRow] = []
    size = 0
    for row in connection.execute(query, {"before": before or 2**63 - 1, "subject": subject, "limit": limit}):
        size += len(row[6])
        if found and size > _READ_BYTES:
            break
        found.append(_as_told(*row))
    return found


def _as_told(
    number: int, at: int, actor: str, action: str, subject: str, outcome: str, detail: str, digest: str
) -> AuditRow:
    return AuditRow(
        id=number,
        at=to_datetime(at),
        actor=actor,
        action=action,
        subject=subject,
        outcome=outcome,
        detail=_read(detail),
        hash=digest,
    )


def _read(detail: str) -> dict[str, object]:
    # A row that somebody has tampered with must be possible to look at.
    try:
        found = json.loads(detail)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": detail}


def _hash(row: tuple[object, ...]) -> str:
    return hashlib.sha256(json.dumps(row, ensure_ascii=True).encode()).hexdigest()
