"""Owners of agents, and which agents of different owners may write to each other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from hive_core.errors import HiveError, bad_request, not_found
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database, milliseconds
from hive_core.people.ownership.sight import ADMINS
from hive_core.protocol.names import MANAGER


class Owners:
    """The owners of agents, in memory and in the database.

    A name stays its owner's when the agent is destroyed or purged: what is recorded of it stays with it, and so does
    what is kept of its state. Only an admin gives a name away.
    """

    def __init__(self) -> None:
        self.by_agent: dict[str, str] = {MANAGER: ADMINS}
        """The owner of each agent that has one; the manager belongs to the admins."""
        self.changed: list[Callable[[], None]] = []
        """Called when an agent that there is, or was, has another owner."""
        self._is_person: Callable[[str], bool] = lambda _: False
        self._contacts: set[tuple[str, str]] = set()
        self._database: Database | None = None

    async def open(self, database: Database, is_person: Callable[[str], bool]) -> None:
        """Read what is stored; `is_person` returns whether there is an account of a name."""
        self._database, self._is_person = database, is_person
        owners, contacts = await database.read(
            lambda db: (
                db.execute("SELECT agent, owner FROM agent_owners").fetchall(),
                db.execute("SELECT agent, other FROM agent_contacts").fetchall(),
            )
        )
        self.by_agent.update(owners)
        self._contacts.update(contacts)

    def owner_of(self, agent: str) -> str | None:
        """Return the person to whom an agent belongs; None if nobody, or all admins."""
        return self.by_agent.get(agent) or None

    def apart(self, one: str, other: str) -> bool:
        """Return True if two agents may not write to each other, nor know of each other.

        That is so for agents of different owners, of which one may be nobody, until both sides allow it. The manager
        writes to all, and all to it.
        """
        owners = self.by_agent
        if len(owners) == 1 or MANAGER in (one, other) or owners.get(one) == owners.get(other):
            return False
        return not ((one, other) in self._contacts and (other, one) in self._contacts)

    def contacts_of(self, agent: str) -> list[str]:
        """Return the agents that an agent's side allows."""
        return sorted(other for one, other in self._contacts if one == agent)

    async def set_owner(self, agent: str, owner: str | None, actor: str, *, at_spawn: bool = False) -> None:
        """Give an agent, or a name, to a person, or to nobody.

        Raises HiveError `unknown_person`, and `invalid_request` for the manager.
        """
        if agent == MANAGER:
            raise bad_request(f"{MANAGER} belongs to the admins", "name another agent")
        if owner is not None and not self._is_person(owner):
            raise not_found("unknown_person", f"there is no account {owner!r}", "hive-c0re operator list shows those")
        before = self.by_agent.get(agent)
        if before == owner:
            return
        # At once, so that nobody else takes the name meanwhile; nothing is told of it before.
        self._apply(agent, owner)

        def store(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM agent_owners WHERE agent = ?", (agent,))
            if owner is not None:
                values = (agent, owner, milliseconds())
                db.execute("INSERT INTO agent_owners (agent, owner, since) VALUES (?, ?, ?)", values)
            detail = {"owner": owner, "before": before, **({"at_spawn": True} if at_spawn else {})}
            audit.append(db, actor=actor, action="owner", subject=agent, detail=detail)

        try:
            await self._stored().write(store)
        except HiveError:
            self._apply(agent, before)
            raise
        for call in () if at_spawn else self.changed:
            call()

    def give_to_admins(self, db: sqlite3.Connection, person: str) -> None:
        """Store that the agents of a person belong to the admins, whose account is removed in the same transaction.

        They must neither be seen by all nor go to a later account of the name. What the person has read is forgotten.
        """
        db.execute("UPDATE agent_owners SET owner = ? WHERE owner = ?", (ADMINS, person))
        db.execute("DELETE FROM person_reads WHERE person = ?", (person,))

    def forget(self, person: str) -> None:
        """Apply in memory what `give_to_admins` has stored."""
        for agent in [agent for agent, owner in self.by_agent.items() if owner == person]:
            self._apply(agent, ADMINS)
        for call in self.changed:
            call()

    async def set_contact(self, agent: str, other: str, *, allowed: bool, both: bool, actor: str) -> None:
        """Let an agent's side allow another agent, or not any more; with `both`, also that one's side."""
        pairs = {(agent, other), (other, agent)} if both else {(agent, other)}

        def store(db: sqlite3.Connection) -> None:
            if allowed:
                db.executemany("INSERT OR IGNORE INTO agent_contacts (agent, other) VALUES (?, ?)", sorted(pairs))
            else:
                db.executemany("DELETE FROM agent_contacts WHERE agent = ? AND other = ?", sorted(pairs))
            detail = {"other": other, "allowed": allowed, "both": both}
            audit.append(db, actor=actor, action="contact", subject=agent, detail=detail)

        await self._stored().write(store)
        self._contacts = self._contacts | pairs if allowed else self._contacts - pairs

    def _apply(self, agent: str, owner: str | None) -> None:
        if owner is None:
            self.by_agent.pop(agent, None)
        else:
            self.by_agent[agent] = owner

    def _stored(self) -> Database:
        if self._database is None:
            raise RuntimeError("open comes first")
        return self._database
