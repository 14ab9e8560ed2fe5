"""The management of accounts, which is for the operator on the host only."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from hive_core.errors import conflict
from hive_core.infra.database import audit
from hive_core.people import store
from hive_core.people.records import MOST_PEOPLE, PeopleRecords, new_secret
from hive_core.people.sign_in import LINK_LENGTH, name_taken
from hive_core.people.signed_in import Role
from hive_core.people.store import Account, StoredLink, digest

_LINK = "hl_"


class MadeLink(NamedTuple):
    """A set-up link that was made, with its secret."""

    secret: str
    person: str | None
    role: Role
    ends_at: int


class Summary(NamedTuple):
    """An account with the numbers of its sessions and tokens; `linked` says that there is a set-up link for it."""

    account: Account
    linked: bool
    sessions: int
    tokens: int


class Administration:
    """Adds, changes and removes accounts."""

    def __init__(self, records: PeopleRecords) -> None:
        self._records = records
        self.removing: list[Callable[[sqlite3.Connection, str], object]] = []
        """Called in the transaction that removes an account, with its name, for what belongs to the person: an account
        that is made with the name later is somebody else's."""
        self.removed: list[Callable[[str], None]] = []
        """Called with the name of an account that was removed."""

    async def summaries(self) -> list[Summary]:
        """Return all accounts, by name."""
        records, now = self._records, self._records.clock()
        linked = await records.database.read(lambda db: store.linked_people(db, now))
        return [
            Summary(
                account,
                account.name in linked,
                len(records.numbers_of(account.name, "session")),
                len(records.numbers_of(account.name, "token")),
            )
            for account in sorted(records.accounts.values())
        ]

    async def add(self, name: str, role: Role, actor: str) -> MadeLink:
        """Make an account and a set-up link for it. Raises `name_taken`, `too_many_people`."""
        async with self._records.lock:
            if name in self._records.accounts:
                raise name_taken(name)
            return await self._add(name, role, actor)

    async def link_for_admin(self, name: str | None, actor: str) -> MadeLink:
        """Make a set-up link for an admin, whose account is made if it is missing.

        Without a name it is for the only admin; while there is none, its user chooses the name. Raises `name_taken`,
        `not_admin`, `several_admins`, `too_many_people`.
        """
        async with self._records.lock:
            admins = [each.name for each in self._records.accounts.values() if each.role == "admin"]
            if name is None and len(admins) > 1:
                why = f"there are several admins: {', '.join(sorted(admins)[:5])}"
                raise conflict("several_admins", why, "name one of them: hive-c0re operator setup --name NAME")
            person = name or (admins[0] if admins else None)
            account = None if person is None else self._records.accounts.get(person)
            if person is not None and account is None:
                return await self._add(person, "admin", actor)
            if account is not None and account.role != "admin":
                hint = f"make an admin of {person} first: hive-c0re operator role {person} admin"
                raise conflict("not_admin", f"{person} is {account.role}", hint)
            return await self._link(person, "admin", actor)

    async def link_for(self, name: str, actor: str) -> MadeLink:
        """Make a link by which a person chooses another password. Raises `unknown_person`."""
        async with self._records.lock:
            return await self._link(name, self._records.account(name).role, actor)

    async def set_role(self, name: str, role: Role, actor: str) -> None:
        """Give a person another role; sessions and tokens have it at once. Raises `unknown_person`."""
        records = self._records
        async with records.lock:
            account = records.account(name)
            if account.role == role:
                return
            changed = account._replace(role=role)
            detail = {"role": role, "before": account.role}

            def write(db: sqlite3.Connection) -> None:
                store.put_account(db, changed)
                db.execute("UPDATE set_up_links SET role = ? WHERE person = ?", (role, name))
                audit.append(db, actor=actor, action="set_role", subject=name, detail=detail)

            await records.database.write_urgently(write)
            records.accounts[name] = changed
            records.end_requests(records.numbers_of(name))

    async def remove(self, name: str, actor: str) -> None:
        """Remove an account with its sessions, tokens and links. Raises `unknown_person`."""
        records = self._records
        async with records.lock:
            role = records.account(name).role

            def also(db: sqlite3.Connection) -> None:
                store.delete_account(db, name)
                for change in self.removing:
                    change(db, name)
                audit.append(db, actor=actor, action="remove_person", subject=name, detail={"role": role})

            await records.end(records.numbers_of(name), also)
            del records.accounts[name]
            for call in self.removed:
                call(name)

    async def _add(self, name: str, role: Role, actor: str) -> MadeLink:
        if len(self._records.accounts) >= MOST_PEOPLE:
            raise conflict("too_many_people", f"there are {MOST_PEOPLE} accounts", "remove one that is not needed")
        new = Account(name, role, None, self._records.clock())

        def before(db: sqlite3.Connection) -> None:
            if store.is_agent(db, name):
                raise name_taken(name)
            store.put_account(db, new)
            audit.append(db, actor=actor, action="add_person", subject=name, detail={"role": role})

        made = await self._link(name, role, actor, before)
        self._records.accounts[name] = new
        return made

    async def _link(
        self, person: str | None, role: Role, actor: str, before: Callable[[sqlite3.Connection], None] = lambda _: None
    ) -> MadeLink:
        now, secret = self._records.clock(), new_secret(_LINK)
        link = StoredLink(digest(secret), person, role, actor, now + LINK_LENGTH)

        def write(db: sqlite3.Connection) -> None:
            before(db)
            store.put_link(db, link, now)
            audit.append(db, actor=actor, action="make_set_up_link", subject=person or "", detail={"role": role})

        await self._records.database.write(write)
        return MadeLink(secret, person, role, link.ends_at)
