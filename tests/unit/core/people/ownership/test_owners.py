"""Owners of agents when an account goes, and another one of its name comes."""

from __future__ import annotations

import sqlite3

from hive_core.messaging import person_inbox
from hive_core.messaging.person_inbox import PersonReader
from hive_core.people.ownership.owners import Owners
from hive_core.people.ownership.sight import ADMINS, Sight
from hive_core.protocol.names import OPERATOR
from tests.unit.core.people.people_hive import HOST, PeopleHive


async def owned(hive: PeopleHive) -> Owners:
    """Return owners of whom ada, whose account there is, has the agents web and old; nobody has db."""
    owners = Owners()
    await owners.open(hive.database, hive.people.is_person)
    hive.people.administration.removing.append(owners.give_to_admins)
    hive.people.administration.removed.append(owners.forget)
    for agent in ("web", "old"):
        await owners.set_owner(agent, "ada", HOST)
    return owners


def sight_of(owners: Owners, person: str, *, all_agents: bool = False) -> Sight:
    return Sight(owners.by_agent, person, all_agents)


async def test_agents_of_a_removed_person_belong_to_the_admins(hive: PeopleHive) -> None:
    """Nobody but admins sees them, also after a restart, and not a later account of the name either."""
    await hive.add()
    owners = await owned(hive)
    told: list[None] = []
    owners.changed.append(lambda: told.append(None))
    await hive.people.administration.remove("ada", HOST)
    assert len(told) == 1, "what shows them ends"
    await hive.add("ada")
    again = Owners()
    await again.open(hive.database, hive.people.is_person)
    for each in (owners, again):
        assert (each.by_agent["web"], each.by_agent["old"]) == (ADMINS, ADMINS)
        assert [sight_of(each, who)("web") for who in ("ada", "bob")] == [False, False]
        assert sight_of(each, "root", all_agents=True)("web")
    await again.set_owner("web", "ada", HOST)
    assert sight_of(again, "ada")("web")


async def test_messages_of_a_removed_person_are_nobody_elses(hive: PeopleHive) -> None:
    """A later account of the name has none of the messages to the person, nor of the answers to theirs."""
    await hive.add()
    owners = await owned(hive)

    def send(db: sqlite3.Connection) -> None:
        columns = "id, sender, recipient, body, reply_to, sent_at, person, about, addressee"
        mark = ", ".join("?" * 9)
        rows = (
            (1, "system", OPERATOR, "to you", None, hive.now, None, None, "ada"),
            (2, OPERATOR, "db", "a question", None, hive.now, "ada", None, None),
            (3, "db", OPERATOR, "the answer", 2, hive.now, None, None, "nobody"),
        )
        for row in rows:
            db.execute(f"INSERT INTO messages ({columns}) VALUES ({mark})", row)
            if row[2] == OPERATOR:
                db.execute("INSERT INTO deliveries (recipient, message) VALUES (?, ?)", (OPERATOR, row[0]))

    await hive.database.write(send)
    reader = PersonReader("ada", sight_of(owners, "ada", all_agents=True))

    def found(db: sqlite3.Connection) -> tuple[list[int], bool]:
        rows, _ = person_inbox.read(db, reader, unread=False, limit=10, before=None)
        return [row.id for row in rows], person_inbox.has_sent(db, "ada", 2)

    assert await hive.database.read(found) == ([1, 3], True)
    await hive.database.write(lambda db: person_inbox.mark_read(db, reader, [1]))
    hive.now += 1
    await hive.people.administration.remove("ada", HOST)
    await hive.add()
    assert await hive.database.read(found) == ([], False)
    assert await hive.database.read(lambda db: db.execute("SELECT * FROM person_reads").fetchall()) == []
