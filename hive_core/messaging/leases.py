"""The SQL of leases. Times are milliseconds.

Every function for a harness raises `superseded` in its own transaction: a hello that was committed before it counts,
even if the directory does not know of it yet.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from hive_core.errors import conflict
from hive_core.messaging.directory import superseded
from hive_core.messaging.store import (
    ORDER,
    AcknowledgedMessage,
    MessageRow,
    acknowledged_messages,
    find_message,
    json_size,
    unknown_message,
)
from hive_core.protocol.base import MAX_LEASED

MOST_HELD = MAX_LEASED
"""A recipient may hold leases only among this many of its oldest messages, which keeps queries fast."""
_ANSWER_BYTES = 1024 * 1024

_OLDEST = f"""(SELECT message, attempts, instance, leased_until, coalesce(place, message) AS place FROM deliveries
    WHERE recipient = :recipient AND acknowledged_at IS NULL
        AND (instance IS NOT NULL OR leased_until IS NULL OR leased_until <= :now)
    ORDER BY {ORDER} LIMIT {MOST_HELD})"""  # noqa: S608
"""Without deliveries that are not due yet: nobody holds them, and their `leased_until` is when they are due."""


class DeliveryRow(NamedTuple):
    """A message and how often it has been handed out, this time included."""

    message: MessageRow
    attempt: int


class Leased(NamedTuple):
    """The result of `lease`; without rows, `next_expiry` is when the recipient's next lease ends, if it has one."""

    rows: list[DeliveryRow]
    next_expiry: int | None


NOTHING = Leased([], None)


def lease(
    db: sqlite3.Connection,
    *,
    recipient: str,
    instance: str,
    most: int,
    now: int,
    until: int,
    holding: Sequence[int] | None,
    unwanted: Callable[[], bool] = lambda: False,
) -> Leased:
    """Lease the oldest free messages of `recipient` to `instance` until the time `until`.

    At most `most`, and about 1 MiB of JSON, but at least one if any is free. With `holding`, messages leased to this
    instance that are not among them count as free: their delivery was lost. If `unwanted()`, nothing is leased.
    """
    if unwanted():
        return NOTHING
    check_instance(db, recipient, instance)
    query = f"""
        SELECT message, attempts + 1 FROM {_OLDEST}
        WHERE leased_until IS NULL OR leased_until <= :now OR (
            :holding IS NOT NULL AND instance = :instance AND message NOT IN (SELECT value FROM json_each(:holding)))
        ORDER BY place, message LIMIT :most"""  # noqa: S608
    held = None if holding is None else json.dumps(holding)
    parameters = {"recipient": recipient, "instance": instance, "now": now, "most": most, "holding": held}
    free = db.execute(query, parameters).fetchall()
    if not free:
        # All of these leases are still running: a message whose lease is over would be free.
        (next_expiry,) = db.execute(f"SELECT min(leased_until) FROM {_OLDEST}", parameters).fetchone()  # noqa: S608
        return Leased([], next_expiry)
    rows: list[DeliveryRow] = []
    size = 0
    for number, attempt in free:
        # Reads the bodies of the leased messages only, and of one more at most.
        message = find_message(db, number)
        if message is None:
            raise LookupError(f"message {number} has a delivery and no body")
        size += json_size(message)
        if rows and size > _ANSWER_BYTES:
            break
        rows.append(DeliveryRow(message, attempt))
    db.executemany(
        """UPDATE deliveries SET attempts = ?, instance = ?, leased_until = ?, place = NULL
        WHERE message = ? AND recipient = ?""",
        [(row.attempt, instance, until, row.message.id, recipient) for row in rows],
    )
    return Leased(rows, None)


def take_back(db: sqlite3.Connection, recipient: str, instance: str, rows: Iterable[DeliveryRow]) -> None:
    """Release messages that `lease` gave to `instance`, unless they were leased again or acknowledged since."""
    db.executemany(
        """UPDATE deliveries SET instance = NULL, leased_until = NULL
        WHERE message = ? AND recipient = ? AND instance = ? AND attempts = ? AND acknowledged_at IS NULL""",
        [(row.message.id, recipient, instance, row.attempt) for row in rows],
    )


def check_instance(db: sqlite3.Connection, recipient: str, instance: str) -> None:
    """Raise `superseded` unless `instance` is the harness that speaks for `recipient`."""
    if db.execute("SELECT 1 FROM agents WHERE name = ? AND instance = ?", (recipient, instance)).fetchone() is None:
        raise superseded(recipient)


def held_by(db: sqlite3.Connection, recipient: str, instance: str) -> list[int]:
    """Return the ids of the unacknowledged messages that `instance` holds."""
    query = """SELECT message FROM deliveries
        WHERE recipient = ? AND acknowledged_at IS NULL AND instance = ? ORDER BY message"""
    return [row[0] for row in db.execute(query, (recipient, instance))]


def acknowledge(
    db: sqlite3.Connection, recipient: str, holder: str | None, ids: Sequence[int], now: int
) -> list[AcknowledgedMessage]:
    """Mark messages as acknowledged; returns those that were not yet.

    Raises `lease_lost` if one of them is not held by `holder` (None: messages that are read without a lease), and
    then changes nothing.
    """
    if holder is not None:
        check_instance(db, recipient, holder)
    changed = _held(db, recipient, holder, ids)
    if not changed:
        return []
    query = f"UPDATE deliveries SET acknowledged_at = ?, leased_until = NULL, instance = NULL WHERE {_CHOSEN}"  # noqa: S608
    db.execute(query, (now, recipient, json.dumps(changed)))
    return acknowledged_messages(db, changed)


def renew(
    db: sqlite3.Connection, recipient: str, instance: str, ids: Sequence[int] | None, until: int | None
) -> list[int]:
    """Set when leases of `instance` end; None releases the messages at once. Raises `lease_lost` like `acknowledge`."""
    check_instance(db, recipient, instance)
    changed = held_by(db, recipient, instance) if ids is None else _held(db, recipient, instance, ids)
    if changed:
        query = f"UPDATE deliveries SET instance = ?, leased_until = ? WHERE {_CHOSEN}"  # noqa: S608
        db.execute(query, (None if until is None else instance, until, recipient, json.dumps(changed)))
    return changed


def take_over(db: sqlite3.Connection, recipient: str, instance: str) -> list[int]:
    """Make `instance` the current one of an agent; returns the ids of the messages that were released."""
    db.execute("UPDATE agents SET instance = ? WHERE name = ?", (instance, recipient))
    return release_all(db, recipient)


_LATE = """acknowledged_at IS NULL AND leased_until > CASE WHEN instance IS NULL THEN :due ELSE :lease END"""


def has_late(db: sqlite3.Connection, lease: int, due: int) -> bool:
    """Return True if a lease ends after `lease`, or a delivery that nobody holds is due after `due`."""
    found = db.execute(f"SELECT 1 FROM deliveries WHERE {_LATE} LIMIT 1", {"lease": lease, "due": due})  # noqa: S608
    return found.fetchone() is not None


def cut_late(db: sqlite3.Connection, lease: int, due: int) -> None:
    """Let those deliveries end or be due at the given times."""
    query = f"""UPDATE deliveries SET leased_until = CASE WHEN instance IS NULL THEN :due ELSE :lease END
        WHERE {_LATE}"""  # noqa: S608
    db.execute(query, {"lease": lease, "due": due})


def release_all(db: sqlite3.Connection, recipient: str) -> list[int]:
    """Release every message that is leased to `recipient`; returns their ids."""
    query = """UPDATE deliveries SET instance = NULL, leased_until = NULL
        WHERE recipient = ? AND acknowledged_at IS NULL AND instance IS NOT NULL RETURNING message"""
    return sorted(row[0] for row in db.execute(query, (recipient,)))


_CHOSEN = "recipient = ? AND message IN (SELECT value FROM json_each(?))"


def _held(db: sqlite3.Connection, recipient: str, holder: str | None, ids: Sequence[int]) -> list[int]:
    """Return those of `ids` that are not acknowledged yet; raises unless `holder` holds all of them.

    One statement for all, and without the bodies: nothing else is written meanwhile, and a harness may ask for the same
    again and again.
    """
    query = """SELECT d.message, d.instance, d.acknowledged_at
        FROM json_each(?) AS chosen CROSS JOIN deliveries d ON d.message = chosen.value AND d.recipient = ?"""
    found = {number: (instance, done) for number, instance, done in db.execute(query, (json.dumps(ids), recipient))}
    held: list[int] = []
    for number in ids:
        if number not in found:
            raise unknown_message(number)
        instance, acknowledged_at = found[number]
        if acknowledged_at is not None:
            continue
        if instance != holder:
            raise conflict(
                "lease_lost",
                f"message {number} is not leased to this harness any more",
                "it was or will be handed out again; renew leases in time",
            )
        held.append(number)
    return held
