"""The operator's changes of agents' inboxes: waiting messages are removed, edited and moved.

Only deliveries that nobody holds change, so that a turn keeps what it was given. The sender of an agent's message is
told in the same transaction, and every change is in the audit table with it.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple, TypeVar

from hive_core.errors import HiveError, conflict
from hive_core.infra.database import audit
from hive_core.messaging.store import ORDER, AcknowledgedMessage, acknowledged_messages, unknown_message
from hive_core.protocol.base import MAX_BODY_BYTES
from hive_core.protocol.names import EVERYONE, OPERATOR, SYSTEM
from hive_core.text import escaped_first_line

T = TypeVar("T")
_SHOWN = 200
_EDITED = "\n\n(The operator has edited this message.)"


class WaitingDelivery(NamedTuple):
    """A delivery that the operator may change. `attempts` counts how often it has been handed out."""

    message: int
    sender: str
    to: str
    body: str
    attempts: int


class Edited(NamedTuple):
    """An edited message before and after; both are for the counts of what waits."""

    before: AcknowledgedMessage
    after: AcknowledgedMessage


def find(db: sqlite3.Connection, recipient: str, number: int, now: int) -> WaitingDelivery:
    """Return the waiting delivery of a message; raises `not_in_queue`, `being_handled`, `unknown_message`."""
    query = """SELECT m.id, m.sender, m.recipient, m.body, d.attempts, d.acknowledged_at IS NOT NULL,
            d.instance IS NOT NULL AND coalesce(d.leased_until, 0) > ?
        FROM deliveries d JOIN messages m ON m.id = d.message WHERE d.message = ? AND d.recipient = ?"""
    row = db.execute(query, (now, number, recipient)).fetchone()
    if row is None:
        error = unknown_message(number)
        error.message = f"no message {number} waits for {recipient}"
        error.hint = f'"hive-c0re queue {recipient}" shows what waits'
        raise error
    if row[5]:
        raise conflict("not_in_queue", f"message {number} was handled already", "send another message instead")
    if row[6]:
        raise conflict(
            "being_handled",
            f"message {number} is being handled by {recipient}",
            f'stop its turn with "hive-c0re cancel {recipient}", then end that with "hive-c0re skip {recipient}"',
        )
    return WaitingDelivery(*row[:5])


def remove(
    db: sqlite3.Connection, recipient: str, number: int, now: int, *, clock: int, actor: str, reason: str
) -> AcknowledgedMessage:
    """Take a waiting message out of an inbox. It counts as handled, so that a repeated send does not bring it back.

    `now` is the time of leases, `clock` that of messages. Raises as `find` does.
    """
    find(db, recipient, number, now)
    db.execute(
        """UPDATE deliveries SET acknowledged_at = ?, instance = NULL, leased_until = NULL, place = NULL
        WHERE message = ? AND recipient = ?""",
        (clock, number, recipient),
    )
    _audit(db, actor, "queue_remove", recipient, {"message": number, "reason": reason})
    return acknowledged_messages(db, [number])[0]


def edit(db: sqlite3.Connection, recipient: str, number: int, now: int, *, actor: str, body: str) -> Edited:
    """Replace the text of a waiting message; an agent's says that it was edited.

    Raises as `find` does, `body_too_large`, and `sent_to_several` for a message that others have got too.
    """
    found = find(db, recipient, number, now)
    if found.to == EVERYONE:
        raise conflict(
            "sent_to_several",
            f"message {number} was sent to everyone, so its text is not {recipient}'s alone",
            f'remove it with "hive-c0re queue {recipient} remove {number}", and send another one',
        )
    text = body if found.sender == OPERATOR else body.removesuffix(_EDITED) + _EDITED
    if len(text.encode()) > MAX_BODY_BYTES:
        raise HiveError(
            "body_too_large",
            f"the text has more than {MAX_BODY_BYTES} bytes",
            hint="put it into a file and say where it is",
            status=413,
        )
    (before,) = acknowledged_messages(db, [number])
    db.execute("UPDATE messages SET body = ?, edited_by = ? WHERE id = ?", (text, actor, number))
    _audit(db, actor, "queue_edit", recipient, {"message": number, "was": found.body[:_SHOWN]})
    return Edited(before, acknowledged_messages(db, [number])[0])


def move(db: sqlite3.Connection, recipient: str, number: int, now: int, *, actor: str, before: int | None) -> None:
    """Move a waiting message before another one, or to the end.

    The messages that it passes are waiting ones that were never handed out: those of a turn that is tried again keep
    their places. No message of an agent overtakes an earlier one of the same sender. Raises as `find` does, and
    `queue_order`.
    """
    moved = find(db, recipient, number, now)
    target = None if before is None else find(db, recipient, before, now)
    query = f"""SELECT d.message, m.sender, d.attempts, d.instance IS NOT NULL, coalesce(place, message)
        FROM deliveries d JOIN messages m ON m.id = d.message
        WHERE d.recipient = ? AND d.acknowledged_at IS NULL ORDER BY {ORDER}"""  # noqa: S608
    rows = db.execute(query, (recipient,)).fetchall()
    ids = [row[0] for row in rows]
    start, end = ids.index(moved.message), len(ids) if target is None else ids.index(target.message)
    first, last = (end, start) if end <= start else (start, end - 1)
    passed = rows[first : last + 1]
    for other, sender, attempts, is_held, _ in passed:
        if attempts or is_held:
            raise _keeps_order(f"message {other} was handed out before, so it keeps its place")
        if other != number and sender == moved.sender and sender != OPERATOR:
            raise _keeps_order(
                f"{sender} sent the messages {min(other, number)} and {max(other, number)} in this order"
            )
    order = [row[0] for row in passed if row[0] != number]
    order.insert(0 if end <= start else len(order), number)
    db.executemany(
        "UPDATE deliveries SET place = ? WHERE message = ? AND recipient = ?",
        [(row[4], other, recipient) for row, other in zip(passed, order, strict=True)],
    )
    _audit(db, actor, "queue_move", recipient, {"message": number, "before": before})


def notices(found: WaitingDelivery, recipient: str, what: str, reason: str = "") -> list[tuple[str, str]]:
    """Return the message that tells an agent what became of its message; none for the hive's and the operator's."""
    if found.sender in (OPERATOR, SYSTEM):
        return []
    why = f" The operator's reason: {reason}" if reason else ""
    line = escaped_first_line(found.body)[:_SHOWN]
    return [
        (found.sender, f"The operator has {what} your message {found.message} to {recipient}.{why}\n\nIt began: {line}")
    ]


def _keeps_order(why: str) -> HiveError:
    return conflict("queue_order", why, "move it to another place")


def _audit(db: sqlite3.Connection, actor: str, action: str, subject: str, detail: dict[str, object]) -> None:
    audit.append(db, actor=actor, action=action, subject=subject, detail=detail)
