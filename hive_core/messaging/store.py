"""The broker's SQL, except for leases: functions on a SQLite connection, run by the writer or a reader.

Times are milliseconds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hive_core.errors import HiveError, not_found
from hive_core.messaging.fairness.inboxes import WaitingMessages
from hive_core.messaging.fairness.pacing import DelayedDelivery
from hive_core.protocol.names import EVERYONE, OPERATOR

_SIZE = "octet_length(m.body)" if sqlite3.sqlite_version_info >= (3, 43) else "length(CAST(m.body AS BLOB))"
"""The bytes of a body. Older versions of SQLite have to read the whole body for it."""
_CHARGED = """CASE WHEN m.sender = 'operator'
        AND substr(m.idempotency_key, 1, length(m.recipient) + 6) = 'page:' || m.recipient || ':'
    THEN m.recipient ELSE m.sender END"""
"""The agent or party in whose share a message counts, in SQL; see `charged`."""
_MESSAGE = "m.id, m.sender, m.recipient, m.body, m.reply_to, m.sent_at"
ORDER = "coalesce(place, message), message"
"""The order of the deliveries in an inbox, in SQL: that of the messages, but for those that the operator has moved."""
_INBOX_BYTES = 4 * 1024 * 1024
_ENVELOPE_BYTES = 300
_MOST_ROWS = 64
_AT_ONCE: Mapping[str, int] = {}


class MessageRow(NamedTuple):
    """One message as it is stored; `to` may be `*`."""

    id: int
    sender: str
    to: str
    body: str
    reply_to: int | None
    sent_at: int


class PendingMessage(NamedTuple):
    """An unacknowledged message as an inbox shows it; `characters` is the length of the whole body."""

    id: int
    sender: str
    body: str
    characters: int
    sent_at: int
    leased: bool


class AcknowledgedMessage(NamedTuple):
    """A message that one of its recipients has acknowledged just now.

    `size` is that of its body in bytes, and `charged` is whose share it had.
    """

    id: int
    charged: str
    size: int


class RecentSend(NamedTuple):
    """A message that was sent not long ago, for the budgets of whom it is `charged` to."""

    charged: str
    recipients: Sequence[str]
    size: int
    sent_at: int


class MessageNote(NamedTuple):
    """Facts that are stored beside a message, for people.

    `person` has sent it as the operator; `about` is the agent that a message of the hive is about, and `addressee` the
    one of the operators that it is to.
    """

    person: str | None = None
    about: str | None = None
    addressee: str | None = None


NO_NOTE = MessageNote()


class NewMessage(NamedTuple):
    """A message for `insert`, with its idempotency key and its recipients.

    `due` says when which deliveries may be handed out at the earliest, if not at once.
    """

    row: MessageRow
    key: str | None
    recipients: Sequence[str]
    due: Mapping[str, int] = _AT_ONCE
    note: MessageNote = NO_NOTE


def page_key(agent: str, key: str) -> str:
    """Return the idempotency key of what is typed on an agent's page, which no other page has."""
    return f"page:{agent}:{key}"


def charged(sender: str, to: str, key: str | None) -> str:
    """Return in whose share and budgets a message counts: its sender's, or the agent's on whose page it was typed.

    The agent itself can type there, as it serves the page. That is seen by the key, so that it holds after a restart.
    """
    typed = sender == OPERATOR and key is not None and key.startswith(page_key(to, ""))
    return to if typed else sender


def last_message_id(db: sqlite3.Connection) -> int:
    """Return the highest id that a message ever had, also if that message was removed."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    return int(row[0]) if row else 0


def unacknowledged(db: sqlite3.Connection) -> list[WaitingMessages]:
    """Return the numbers of unacknowledged messages, and the bytes of their bodies, by who pays and recipient."""
    query = f"""SELECT {_CHARGED}, d.recipient, count(*), sum({_SIZE})
        FROM deliveries d JOIN messages m ON m.id = d.message
        WHERE d.acknowledged_at IS NULL GROUP BY 1, 2"""  # noqa: S608
    return [WaitingMessages(*row) for row in db.execute(query)]


def recent_sends(db: sqlite3.Connection, since: int, most: int) -> list[RecentSend]:
    """Return the messages that were sent after the time `since`, the newest first; at most `most` of them."""
    query = f"""SELECT m.id, {_CHARGED}, m.sent_at, {_SIZE} FROM messages m ORDER BY m.id DESC LIMIT ?"""  # noqa: S608
    found: list[RecentSend] = []
    for number, payer, sent_at, size in db.execute(query, (most,)):
        if sent_at < since:
            break
        found.append(RecentSend(payer, recipients_of(db, number), size, sent_at))
    return found


def delayed(db: sqlite3.Connection, now: int) -> list[DelayedDelivery]:
    """Return the deliveries that may not be handed out yet."""
    query = """SELECT m.sender, d.recipient, d.leased_until FROM deliveries d JOIN messages m ON m.id = d.message
        WHERE d.acknowledged_at IS NULL AND d.instance IS NULL AND d.leased_until > ? ORDER BY d.message"""
    return [DelayedDelivery(*row) for row in db.execute(query, (now,))]


def insert(db: sqlite3.Connection, messages: Sequence[NewMessage]) -> None:
    """Store messages and their deliveries."""
    _insert_rows(db, "messages (id, sender, recipient, body, reply_to, sent_at, idempotency_key)",
                 [(*new.row, new.key) for new in messages])  # fmt: skip
    at_once = [(new.row.id, name) for new in messages for name in new.recipients if name not in new.due]
    _insert_rows(db, "deliveries (message, recipient)", at_once)
    if any(new.due for new in messages):
        # A delivery that nobody holds, and whose lease ends when it is due.
        _insert_rows(db, "deliveries (message, recipient, leased_until)",
                     [(new.row.id, name, at) for new in messages for name, at in new.due.items()])  # fmt: skip
    for new in messages:
        if new.note is not NO_NOTE:
            values = (*new.note, new.row.id)
            db.execute("UPDATE messages SET person = ?, about = ?, addressee = ? WHERE id = ?", values)


def _insert_rows(db: sqlite3.Connection, into: str, rows: Sequence[tuple[object, ...]]) -> None:
    # Many rows per statement, in a few fixed sizes so that the prepared statements are found again: each statement
    # costs two hand-overs of the interpreter lock between SQLite's thread and the event loop.
    start, size = 0, _MOST_ROWS
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        chunk = rows[start : start + size]
        placeholders = f"({', '.join('?' * len(chunk[0]))})"
        db.execute(
            f"INSERT INTO {into} VALUES {', '.join([placeholders] * size)}",  # noqa: S608
            [value for row in chunk for value in row],
        )
        start += size


def find_by_key(db: sqlite3.Connection, sender: str, key: str) -> MessageRow | None:
    """Return the message that `sender` stored under an idempotency key."""
    query = f"SELECT {_MESSAGE} FROM messages m WHERE m.sender = ? AND m.idempotency_key = ?"  # noqa: S608
    row = db.execute(query, (sender, key)).fetchone()
    return MessageRow(*row) if row else None


def is_edited(db: sqlite3.Connection, number: int) -> bool:
    """Return True if the operator has edited a message while it waited."""
    return db.execute("SELECT 1 FROM messages WHERE id = ? AND edited_by IS NOT NULL", (number,)).fetchone() is not None


def recipients_of(db: sqlite3.Connection, message: int) -> list[str]:
    """Return the names to which a message was delivered."""
    rows = db.execute("SELECT recipient FROM deliveries WHERE message = ? ORDER BY recipient", (message,))
    return [row[0] for row in rows]


def read_messages(
    db: sqlite3.Connection, recipient: str, *, unread: bool, limit: int, before: int | None
) -> list[MessageRow]:
    """Return the newest `limit` messages of `recipient`, the oldest first; fewer if they exceed 4 MiB of JSON.

    There is at least one if there is any.
    """
    # The operator's own messages are never moved; the expression is that of the index of what waits.
    place = "coalesce(d.place, d.message)" if unread else "d.message"
    query = f"""
        SELECT {_MESSAGE} FROM deliveries d JOIN messages m ON m.id = d.message
        WHERE d.recipient = ? AND {place} < ? {"AND d.acknowledged_at IS NULL" if unread else ""}
        ORDER BY {place} DESC, d.message DESC LIMIT ?"""  # noqa: S608
    rows: list[MessageRow] = []
    size = 0
    for found in db.execute(query, (recipient, before or 2**63 - 1, limit)):
        row = MessageRow(*found)
        size += json_size(row)
        if rows and size > _INBOX_BYTES:
            break
        rows.append(row)
    return rows[::-1]


def peek(db: sqlite3.Connection, recipient: str, limit: int, shown: int, now: int) -> list[PendingMessage]:
    """Return the oldest unacknowledged messages of `recipient`, with the first `shown` characters of each body.

    Fewer than `limit` if their bodies have more than 4 Mi characters together; at least one if there is any.
    """
    query = """
        SELECT m.id, m.sender, m.body, m.sent_at, d.instance IS NOT NULL AND coalesce(d.leased_until, 0) > ?
        FROM deliveries d JOIN messages m ON m.id = d.message
        WHERE d.recipient = ? AND d.acknowledged_at IS NULL ORDER BY coalesce(d.place, d.message), d.message LIMIT ?"""
    rows: list[PendingMessage] = []
    read = 0
    for number, sender, body, sent_at, leased in db.execute(query, (now, recipient, limit)):
        read += len(body)
        if rows and read > _INBOX_BYTES:
            break
        # Cut here, because SQLite's own functions end a text at a NUL.
        rows.append(PendingMessage(number, sender, body[:shown], len(body), sent_at, bool(leased)))
    return rows


def mark_read(db: sqlite3.Connection, recipient: str, number: int, now: int) -> AcknowledgedMessage | None:
    """Acknowledge a message that is read without a lease; returns None if it was acknowledged already."""
    query = """UPDATE deliveries SET acknowledged_at = ?
        WHERE message = ? AND recipient = ? AND acknowledged_at IS NULL"""
    changed = db.execute(query, (now, number, recipient)).rowcount > 0
    return acknowledged_messages(db, [number])[0] if changed else None


def acknowledged_messages(db: sqlite3.Connection, ids: Sequence[int]) -> list[AcknowledgedMessage]:
    """Return the sizes of messages, and who paid for them, in the order of `ids`."""
    query = f"""SELECT m.id, {_CHARGED}, {_SIZE}
        FROM json_each(?) AS chosen CROSS JOIN messages m ON m.id = chosen.value"""  # noqa: S608
    found = {row[0]: AcknowledgedMessage(*row) for row in db.execute(query, (json.dumps(ids),))}
    return [found[number] for number in ids]


def json_size(row: MessageRow) -> int:
    """Return about how many bytes a message has in an answer: control characters grow six-fold in JSON."""
    return _ENVELOPE_BYTES + len(json.dumps(row.body, ensure_ascii=False).encode())


def find_message(db: sqlite3.Connection, number: int) -> MessageRow | None:
    """Return the message with this id."""
    row = db.execute(f"SELECT {_MESSAGE} FROM messages m WHERE m.id = ?", (number,)).fetchone()  # noqa: S608
    return MessageRow(*row) if row else None


def find_reply(db: sqlite3.Connection, asked: MessageRow) -> MessageRow | None:
    """Return the first unread message to the sender of `asked` that answers it.

    Only its recipient can answer, because ids are easy to guess; a message to everyone can be answered by anyone.
    """
    query = f"""
        SELECT {_MESSAGE} FROM deliveries d JOIN messages m ON m.id = d.message
        WHERE d.recipient = :asker AND d.acknowledged_at IS NULL AND coalesce(d.place, d.message) > :id
          AND (m.sender = :to AND m.reply_to IS NULL OR m.reply_to = :id AND :to IN (m.sender, '{EVERYONE}'))
        ORDER BY m.reply_to IS NULL, d.message LIMIT 1"""  # noqa: S608
    row = db.execute(query, {"asker": asked.sender, "id": asked.id, "to": asked.to}).fetchone()
    return MessageRow(*row) if row else None


def find_answer(db: sqlite3.Connection, asked: MessageRow) -> tuple[MessageRow | None, bool]:
    """Return what `find_reply` finds; if that is nothing, also what `is_handled` says."""
    row = find_reply(db, asked)
    return row, row is None and is_handled(db, asked.id)


def is_handled(db: sqlite3.Connection, number: int) -> bool:
    """Return True if all recipients have acknowledged a message, and none has sent anything since it was stored.

    An agent that has sent something, such as a question to another agent, may answer later.
    """
    query = """SELECT recipient, acknowledged_at IS NULL FROM deliveries WHERE message = ?"""
    recipients = db.execute(query, (number,)).fetchall()
    if not recipients or any(is_open for _, is_open in recipients):
        return False
    query = """SELECT 1 FROM messages WHERE id > ? AND sender IN (SELECT value FROM json_each(?)) LIMIT 1"""
    names = json.dumps([name for name, _ in recipients])
    return db.execute(query, (number, names)).fetchone() is None


def forget(db: sqlite3.Connection, recipient: str) -> int:
    """Remove all deliveries to `recipient`; returns how many of them were unacknowledged."""
    # Counted on its own: SQLite 3.40 returns 0 for `acknowledged_at IS NULL` in the RETURNING of this DELETE.
    query = "SELECT count(*) FROM deliveries WHERE recipient = ? AND acknowledged_at IS NULL"
    (dropped,) = db.execute(query, (recipient,)).fetchone()
    rows = db.execute("DELETE FROM deliveries WHERE recipient = ? RETURNING message", (recipient,)).fetchall()
    _delete_undelivered(db, [row[0] for row in rows])
    return int(dropped)


def vacuum(db: sqlite3.Connection, before: int, most: int) -> int:
    """Remove up to `most` deliveries acknowledged before a time, and messages without any; returns how many."""
    query = """DELETE FROM deliveries WHERE (message, recipient) IN
        (SELECT message, recipient FROM deliveries WHERE acknowledged_at < ? ORDER BY acknowledged_at LIMIT ?)
        RETURNING message"""
    rows = db.execute(query, (before, most)).fetchall()
    _delete_undelivered(db, [row[0] for row in rows])
    return len(rows)


def _delete_undelivered(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    numbers = [(number,) for number in set(ids)]
    db.executemany(
        "DELETE FROM messages WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE message = ?1)", numbers
    )
    db.executemany(
        "DELETE FROM person_reads WHERE message = ?1 AND NOT EXISTS (SELECT 1 FROM messages WHERE id = ?1)", numbers
    )


def unknown_message(number: int) -> HiveError:
    """Return the error for a message id that the caller may not use."""
    return not_found("unknown_message", f"there is no message {number} of yours", "it may be past its retention time")
