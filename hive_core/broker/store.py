"""The broker's SQL: plain functions on a SQLite connection, run by the writer or a reader. Times are milliseconds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hive_core.errors import HiveError, conflict, not_found

_MESSAGE = "m.id, m.sender, m.recipient, m.body, m.reply_to, m.sent_at"
_LEASE_BYTES = 4 * 1024 * 1024
_MOST_ROWS = 64


class MessageRow(NamedTuple):
    """One message as it is stored; `to` may be `*`."""

    id: int
    sender: str
    to: str
    body: str
    reply_to: int | None
    sent_at: int


class DeliveryRow(NamedTuple):
    """A message and how often it has been handed out, this time included."""

    message: MessageRow
    attempt: int


class NewMessage(NamedTuple):
    """What `insert` stores."""

    row: MessageRow
    key: str | None
    recipients: Sequence[str]


class Leased(NamedTuple):
    """What `lease` gave; without rows, `next_expiry` is when the next lease of this recipient ends, if there is one."""

    rows: list[DeliveryRow]
    next_expiry: int | None


def last_message_id(db: sqlite3.Connection) -> int:
    """The highest id ever given to a message, also if that one is gone since."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    return int(row[0]) if row else 0


def unacknowledged(db: sqlite3.Connection) -> dict[str, int]:
    """How many unacknowledged messages each recipient has."""
    query = "SELECT recipient, count(*) FROM deliveries WHERE acknowledged_at IS NULL GROUP BY recipient"
    return dict(db.execute(query).fetchall())


def insert(db: sqlite3.Connection, messages: Sequence[NewMessage]) -> None:
    """Store messages and their deliveries."""
    _insert_rows(db, "messages (id, sender, recipient, body, reply_to, sent_at, idempotency_key)",
                 [(*new.row, new.key) for new in messages])  # fmt: skip
    _insert_rows(db, "deliveries (message, recipient)",
                 [(new.row.id, name) for new in messages for name in new.recipients])  # fmt: skip


def _insert_rows(db: sqlite3.Connection, into: str, rows: Sequence[tuple[object, ...]]) -> None:
    # Many rows per statement, in a few fixed sizes so that the prepared statements are found again: each statement
    # costs two hand-overs of the interpreter lock between SQLite's thread and the event loop.
    start, size = 0, _MOST_ROWS
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        chunk = rows[start : start + size]
        places = f"({', '.join('?' * len(chunk[0]))})"
        db.execute(
            f"INSERT INTO {into} VALUES {', '.join([places] * size)}",  # noqa: S608
            [value for row in chunk for value in row],
        )
        start += size


def find_by_key(db: sqlite3.Connection, sender: str, key: str) -> MessageRow | None:
    """The message that `sender` stored under an idempotency key."""
    query = f"SELECT {_MESSAGE} FROM messages m WHERE m.sender = ? AND m.idempotency_key = ?"  # noqa: S608
    row = db.execute(query, (sender, key)).fetchone()
    return MessageRow(*row) if row else None


def recipients_of(db: sqlite3.Connection, message: int) -> list[str]:
    """Whom a message was delivered to."""
    rows = db.execute("SELECT recipient FROM deliveries WHERE message = ? ORDER BY recipient", (message,))
    return [row[0] for row in rows]


def lease(
    db: sqlite3.Connection,
    *,
    recipient: str,
    instance: str,
    most: int,
    now: int,
    until: int,
    holding: Iterable[int] | None,
) -> Leased:
    """Hand the oldest free messages of `recipient` to `instance` until the time `until`.

    With `holding`, messages leased to this instance that are not among them count as free: it never got them.
    """
    held = None if holding is None else set(holding)
    query = f"""
        SELECT {_MESSAGE}, d.attempts + 1, d.leased_until, d.instance
        FROM deliveries d JOIN messages m ON m.id = d.message
        WHERE d.recipient = ? AND d.acknowledged_at IS NULL ORDER BY d.message"""  # noqa: S608
    rows: list[DeliveryRow] = []
    next_expiry: int | None = None
    size = 0
    for *message, attempt, leased_until, holder in db.execute(query, (recipient,)):
        row = MessageRow(*message)
        unseen = held is not None and holder == instance and row.id not in held
        if leased_until is not None and leased_until > now and not unseen:
            next_expiry = min(leased_until, next_expiry or leased_until)
            continue
        size += len(row.body)
        if rows and size > _LEASE_BYTES:
            break
        rows.append(DeliveryRow(row, attempt))
        if len(rows) == most:
            break
    db.executemany(
        "UPDATE deliveries SET attempts = ?, instance = ?, leased_until = ? WHERE message = ? AND recipient = ?",
        [(row.attempt, instance, until, row.message.id, recipient) for row in rows],
    )
    return Leased(rows, next_expiry)


def held_by(db: sqlite3.Connection, recipient: str, instance: str) -> list[int]:
    """The ids of the unacknowledged messages that `instance` holds."""
    query = """SELECT message FROM deliveries
        WHERE recipient = ? AND acknowledged_at IS NULL AND instance = ? ORDER BY message"""
    return [row[0] for row in db.execute(query, (recipient, instance))]


def acknowledge(db: sqlite3.Connection, recipient: str, holder: str | None, ids: Iterable[int], now: int) -> list[int]:
    """Mark messages as dealt with, and return those that were not yet.

    Raises `lease_lost` if one of them is not held by `holder` (None: messages that are read without a lease), and
    then changes nothing.
    """
    changed = [number for number in ids if _check_held(db, recipient, holder, number)]
    db.executemany(
        """UPDATE deliveries SET acknowledged_at = ?, leased_until = NULL, instance = NULL
        WHERE message = ? AND recipient = ?""",
        [(now, number, recipient) for number in changed],
    )
    return changed


def renew(
    db: sqlite3.Connection, recipient: str, instance: str, ids: Iterable[int] | None, until: int | None
) -> list[int]:
    """Set when leases of `instance` end; None frees the messages at once. Raises `lease_lost` like `acknowledge`."""
    chosen = held_by(db, recipient, instance) if ids is None else ids
    changed = [number for number in chosen if _check_held(db, recipient, instance, number)]
    holder = None if until is None else instance
    db.executemany(
        "UPDATE deliveries SET instance = ?, leased_until = ? WHERE message = ? AND recipient = ?",
        [(holder, until, number, recipient) for number in changed],
    )
    return changed


def take_over(db: sqlite3.Connection, recipient: str, instance: str) -> list[int]:
    """Let `instance` be the one that speaks for an agent; returns the ids that earlier ones held, now free."""
    db.execute("UPDATE agents SET instance = ? WHERE name = ?", (instance, recipient))
    return release_all(db, recipient)


def release_all(db: sqlite3.Connection, recipient: str) -> list[int]:
    """Free every message that is leased in `recipient`'s name; returns their ids."""
    query = """UPDATE deliveries SET instance = NULL, leased_until = NULL
        WHERE recipient = ? AND acknowledged_at IS NULL AND instance IS NOT NULL RETURNING message"""
    return sorted(row[0] for row in db.execute(query, (recipient,)))


def _check_held(db: sqlite3.Connection, recipient: str, holder: str | None, number: int) -> bool:
    """Whether the message is held and unacknowledged; False if it was acknowledged already; raises otherwise."""
    query = "SELECT instance, acknowledged_at FROM deliveries WHERE message = ? AND recipient = ?"
    row: tuple[str | None, int | None] | None = db.execute(query, (number, recipient)).fetchone()
    if row is None:
        raise unknown_message(number)
    if row[1] is not None:
        return False
    if row[0] != holder:
        raise conflict(
            "lease_lost",
            f"message {number} is not leased to this harness any more",
            "it was or will be handed out again; renew leases in time",
        )
    return True


def read_messages(
    db: sqlite3.Connection, recipient: str, *, unread: bool, limit: int, before: int | None
) -> list[MessageRow]:
    """The newest `limit` messages of `recipient`, oldest of them first."""
    query = f"""
        SELECT {_MESSAGE} FROM deliveries d JOIN messages m ON m.id = d.message
        WHERE d.recipient = ? AND d.message < ? {"AND d.acknowledged_at IS NULL" if unread else ""}
        ORDER BY d.message DESC LIMIT ?"""  # noqa: S608
    rows = db.execute(query, (recipient, before or 2**63 - 1, limit)).fetchall()
    return [MessageRow(*row) for row in reversed(rows)]


def find_message(db: sqlite3.Connection, number: int) -> MessageRow | None:
    """The message with this id."""
    row = db.execute(f"SELECT {_MESSAGE} FROM messages m WHERE m.id = ?", (number,)).fetchone()  # noqa: S608
    return MessageRow(*row) if row else None


def find_reply(db: sqlite3.Connection, asked: MessageRow) -> MessageRow | None:
    """The first unread message to `asked`'s sender that answers it."""
    query = f"""
        SELECT {_MESSAGE} FROM deliveries d JOIN messages m ON m.id = d.message
        WHERE d.recipient = ? AND d.acknowledged_at IS NULL AND d.message > ?
          AND (m.reply_to = ? OR (m.reply_to IS NULL AND m.sender = ?))
        ORDER BY m.reply_to IS NULL, d.message LIMIT 1"""  # noqa: S608
    row = db.execute(query, (asked.sender, asked.id, asked.id, asked.to)).fetchone()
    return MessageRow(*row) if row else None


def forget(db: sqlite3.Connection, recipient: str) -> int:
    """Remove everything that waits for or was delivered to `recipient`; how many of it were unacknowledged."""
    # Counted on its own: SQLite 3.40 says 0 for `acknowledged_at IS NULL` in the RETURNING of this DELETE.
    query = "SELECT count(*) FROM deliveries WHERE recipient = ? AND acknowledged_at IS NULL"
    (dropped,) = db.execute(query, (recipient,)).fetchone()
    rows = db.execute("DELETE FROM deliveries WHERE recipient = ? RETURNING message", (recipient,)).fetchall()
    _delete_undelivered(db, [row[0] for row in rows])
    return int(dropped)


def vacuum(db: sqlite3.Connection, before: int, most: int) -> int:
    """Remove up to `most` deliveries acknowledged before a time, and messages that have none left; how many."""
    query = """DELETE FROM deliveries WHERE (message, recipient) IN
        (SELECT message, recipient FROM deliveries WHERE acknowledged_at < ? ORDER BY acknowledged_at LIMIT ?)
        RETURNING message"""
    rows = db.execute(query, (before, most)).fetchall()
    _delete_undelivered(db, [row[0] for row in rows])
    return len(rows)


def _delete_undelivered(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    db.executemany(
        "DELETE FROM messages WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE message = ?1)",
        [(number,) for number in set(ids)],
    )


def unknown_message(number: int) -> HiveError:
    """The refusal for a message id that is not the caller's to name."""
    return not_found("unknown_message", f"there is no message {number} of yours", "it may be past its retention time")
