"""The audit log: a table of actions as a hash chain, in which changed or deleted rows are detected.

Each row's hash covers its content and the hash of the row before it. A row is appended in the same transaction as the
change that it records.
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

_MAX_DETAIL_BYTES = 4 * 1024 * 1024


def append(
    connection: sqlite3.Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    outcome: str = "ok",
    detail: Mapping[str, object] | None = None,
) -> None:
    """Append one row. `outcome` is `ok` or an error code; `detail` must hold no secret and no message body."""
    last = connection.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    number, previous = (last[0] + 1, last[1]) if last else (1, GENESIS)
    text = json.dumps(detail or {}, sort_keys=True, ensure_ascii=True)
    row = (number, milliseconds(), actor, action, subject, outcome, text, previous)
    connection.execute(f"INSERT INTO audit ({_COLUMNS}, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, _hash(row)))  # noqa: S608


def first_broken_row(connection: sqlite3.Connection) -> int | None:
    """Return the id of the first row that does not fit the chain, or None if all do.

    The table alone does not show whether rows at its end were deleted.
    """
    expected_id, previous = 1, GENESIS
    for *row, digest in connection.execute(f"SELECT {_COLUMNS}, hash FROM audit ORDER BY id"):  # noqa: S608
        if row[0] != expected_id or row[-1] != previous or digest != _hash(tuple(row)):
            return int(row[0])
        expected_id, previous = expected_id + 1, digest
    return None


def rows(
    connection: sqlite3.Connection,
    *,
    subject: str | None = None,
    limit: int = 100,
    before: int | None = None,
    seen: tuple[str, Mapping[str, str]] | None = None,
) -> list[AuditRow]:
    """Return the newest `limit` rows with an id below `before`, newest first; with `subject`, only those about it.

    `seen` is a condition in SQL for the rows, and its parameters. The result is cut when the details have more than
    4 MiB, but has at least one row if there is any.
    """
    condition, values = seen or ("1", {})
    query = f"""SELECT id, at, actor, action, subject, outcome, detail, hash FROM audit
        WHERE id < :before AND (:subject IS NULL OR subject = :subject) AND ({condition})
        ORDER BY id DESC LIMIT :limit"""  # noqa: S608
    found: list[AuditRow] = []
    size = 0
    for row in connection.execute(query, {"before": before or 2**63 - 1, "subject": subject, "limit": limit, **values}):
        size += len(row[6])
        if found and size > _MAX_DETAIL_BYTES:
            break
        found.append(_to_protocol(*row))
    return found


def _to_protocol(
    number: int, at: int, actor: str, action: str, subject: str, outcome: str, detail: str, digest: str
) -> AuditRow:
    return AuditRow(
        id=number,
        at=to_datetime(at),
        actor=actor,
        action=action,
        subject=subject,
        outcome=outcome,
        detail=_parse_detail(detail),
        hash=digest,
    )


def _parse_detail(detail: str) -> dict[str, object]:
    # A row that was tampered with must still be readable.
    try:
        found = json.loads(detail)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": detail}


def _hash(row: tuple[object, ...]) -> str:
    return hashlib.sha256(json.dumps(row, ensure_ascii=True).encode()).hexdigest()
