"""Accounts over a real database, with a clock of the test and hashes that take no time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

from hive_core.errors import HiveError
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.people import People, Role
from hive_core.people.sign_in import BegunSession
from hive_core.protocol.people.settings import AccountSettings

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
PASSWORD = "correct horse"
HOST = "operator:root"
ADDRESS = "192.0.2.1"


class PeopleHive:
    """Accounts with the usual settings; `now` is the time, in milliseconds."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = 1_000 * DAY
        self.ended: list[int] = []
        """The numbers of credentials whose requests were to end."""
        self.hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        self.make()

    def make(self) -> None:
        """Replace the accounts by ones that know only the database."""
        self.people = People(self.database, AccountSettings(), clock=lambda: self.now, hasher=self.hasher)
        self.people.ended.append(self.ended.append)

    async def restart(self) -> None:
        """Start again, as after a stop of the daemon."""
        await self.people.close()
        self.make()
        await self.people.open()

    async def add(self, name: str = "ada", role: Role = "operator", password: str = PASSWORD) -> BegunSession:
        """Make an account and use its link, at an address from which nobody signs in."""
        made = await self.people.administration.add(name, role, HOST)
        return await self.people.signing_in.set_up(made.secret, None, password, "")

    async def sign_in(
        self, name: str = "ada", password: str = PASSWORD, address: str = ADDRESS, replaced: str = ""
    ) -> BegunSession:
        return await self.people.signing_in.sign_in(name, password, address, replaced)

    async def is_signed_in(self, secret: str) -> bool:
        """Return True if a request with this session or token is one of a person's."""
        try:
            await self.people.identify(secret)
        except HiveError as error:
            assert (error.code, error.status) == ("not_signed_in", 401)
            return False
        return True

    async def audited(self, action: str) -> list[tuple[str, str, str, dict[str, Any]]]:
        """Return actor, subject, outcome and detail of the rows with this action, the oldest first."""
        rows = await self.database.read(lambda db: audit.rows(db, limit=1_000))
        return [(row.actor, row.subject, row.outcome, row.detail) for row in reversed(rows) if row.action == action]

    async def stored_text(self) -> str:
        """Return all that the database has, as text."""

        def dump(db: Any) -> str:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            return "\n".join(str(db.execute(f"SELECT * FROM {name}").fetchall()) for name in tables)

        return await self.database.read(dump)


@asynccontextmanager
async def people_hive(directory: Path) -> AsyncIterator[PeopleHive]:
    """Open a database of the test's own."""
    database = await Database.open(directory / "hive.sqlite")
    writing = asyncio.create_task(database.run())
    try:
        hive = PeopleHive(database)
        await hive.people.open()
        yield hive
    finally:
        database.finish()
        await writing
        await database.close()
