"""The inbox of one person: what agents and the hive write to the operator, as far as it is this person's.

A message belongs to the owner of the agent that has sent it, or that it is about, else to all operators; one that
answers a person's, or is addressed to one, to that person.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from hive_core.messaging.store import MessageRow, json_size
from hive_core.people.ownership.sight import ADMINS, Sight
from hive_core.protocol.names import OPERATOR, SYSTEM

_BYTES = 4 * 1024 * 1024
_SUBJECT = f"CASE WHEN m.sender = '{SYSTEM}' THEN m.about ELSE m.sender END"


class PersonReader(NamedTuple):
    """A person who reads, with the agents of which they may know."""

    name: str
    sees: Sight


class _Where(NamedTuple):
    """A condition for messages to the operator, and its parameters."""

    text: str
    values: dict[str, object]


def read(
    db: sqlite3.Connection, reader: PersonReader, *, unread: bool, limit: int, before: int | None
) -> tuple[list[MessageRow], int]:
    """Return the newest messages of a person, the oldest first, and how many are unread.

    They are fewer than `limit` if they exceed 4 MiB of JSON; at least one if there is any.
    """
    where, values = _belongs(reader)
    new = f"{where} AND {_UNREAD}"
    query = f"""SELECT m.id, m.sender, m.recipient, m.body, m.reply_to, m.sent_at
        FROM deliveries d JOIN messages m ON m.id = d.message
        WHERE d.recipient = '{OPERATOR}' AND d.message < :before AND {new if unread else where}
        ORDER BY d.message DESC LIMIT :limit"""  # noqa: S608
    rows: list[MessageRow] = []
    size = 0
    for found in db.execute(query, {**values, "before": before or 2**63 - 1, "limit": limit}):
        row = MessageRow(*found)
        size += json_size(row)
        if rows and size > _BYTES:
            break
        rows.append(row)
    query = f"""SELECT count(*) FROM deliveries d JOIN messages m ON m.id = d.message
        WHERE d.recipient = '{OPERATOR}' AND {new}"""  # noqa: S608
    (total,) = db.execute(query, values).fetchone()
    return rows[::-1], int(total)


def mark_read(db: sqlite3.Connection, reader: PersonReader, ids: Sequence[int]) -> list[int]:
    """Mark messages of a person as read; return those that were not."""
    where, values = _belongs(reader)
    query = f"""INSERT OR IGNORE INTO person_reads (person, message)
        SELECT :me, d.message FROM json_each(:ids) AS chosen
        JOIN deliveries d ON d.message = chosen.value AND d.recipient = '{OPERATOR}'
        JOIN messages m ON m.id = d.message WHERE {where} RETURNING message"""  # noqa: S608
    return sorted(number for (number,) in db.execute(query, {**values, "ids": json.dumps(list(ids))}).fetchall())


def has_sent(db: sqlite3.Connection, person: str, number: int) -> bool:
    """Return True if a person has sent the message of that id."""
    query = f"SELECT 1 FROM messages m WHERE m.id = :id AND m.person = :me AND {_SINCE.format('m')}"  # noqa: S608
    return db.execute(query, {"id": number, "me": person}).fetchone() is not None


_SINCE = "{}.sent_at >= coalesce((SELECT made_at FROM people WHERE name = :me), 0)"
"""The condition that the account has been there since: an earlier one of the name was somebody else's."""
_UNREAD = f"""{_SINCE.format("m")}
    AND NOT EXISTS (SELECT 1 FROM person_reads r WHERE r.person = :me AND r.message = m.id)"""  # noqa: S608


def _belongs(reader: PersonReader) -> _Where:
    """Return the condition for the messages that are a person's."""
    sees, me = reader.sees, reader.name
    others = [agent for agent, owner in sees.owners.items() if owner not in (me, ADMINS)]
    seen = f"({_SUBJECT} IS NOT NULL AND {sees.condition(_SUBJECT)})"
    if sees.whole:
        seen = "1"  # Also what the hive says of itself.
    mine = f"""(m.addressee = :me AND {_SINCE.format("m")}
        OR m.addressee IS NULL AND coalesce({_SUBJECT}, '') NOT IN (SELECT value FROM json_each(:others))
        OR EXISTS (SELECT 1 FROM messages q WHERE q.id = m.reply_to AND q.person = :me AND {_SINCE.format("q")}))"""  # noqa: S608
    values: dict[str, object] = {"me": me, "others": json.dumps(others), "names": sees.names}
    return _Where(f"{seen} AND {mine} AND :names IS NOT NULL", values)
