"""The people who use the hive: the one object that other packages hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from hive_core.errors import HiveError
from hive_core.infra.database.database import TEMPORARY_ERRORS, Database, steady_milliseconds
from hive_core.people import store
from hive_core.people.administration import Administration
from hive_core.people.passwords import Passwords
from hive_core.people.records import PeopleRecords
from hive_core.people.refusals import RefusedSignIns
from hive_core.people.sign_in import SignIn
from hive_core.people.signed_in import SignedIn
from hive_core.people.store import Account, Credential
from hive_core.people.tokens import PersonCredentials
from hive_core.protocol.people.settings import AccountSettings

if TYPE_CHECKING:
    from argon2 import PasswordHasher

log = structlog.get_logger(__name__)

_LONGEST_PAUSE = 60_000
"""Milliseconds after which last uses are stored, and a clock that was changed is noticed."""
_SHORTEST_PAUSE = 50


class People:
    """Accounts, and what people are signed in with."""

    def __init__(
        self,
        database: Database,
        settings: AccountSettings,
        *,
        clock: Callable[[], int] = steady_milliseconds,
        hasher: PasswordHasher | None = None,
    ) -> None:
        """`clock` gives the time in milliseconds, and never goes back."""
        self._database = database
        self._clock = clock
        self._records = PeopleRecords(database, settings, clock)
        self._refusals = RefusedSignIns(database, clock)
        self.signing_in = SignIn(self._records, Passwords(hasher), self._refusals)
        self.credentials = PersonCredentials(self._records)
        self.administration = Administration(self._records)
        self.administration.removed.append(self.signing_in.forget_person)
        self.ended = self._records.ended
        """Called with the number of each session or token that has ended, or that gives another role from now on:
        requests under way with it, such as streams, are to end. None of them may wait or raise."""

    @classmethod
    @asynccontextmanager
    async def opened(cls, database: Database, settings: AccountSettings) -> AsyncIterator[People]:
        """Open the accounts of a database for the block."""
        people = cls(database, settings)
        await people.open()
        try:
            yield people
        finally:
            await people.close()

    async def open(self) -> None:
        """Read accounts and credentials; those whose end has passed while no daemon ran end now."""
        await self._records.open()
        await self.signing_in.open()
        await self._end_due()

    async def identify(self, token: str) -> SignedIn:
        """Return the person whose session or API token this is. Raises `not_signed_in`.

        It reads memory only.
        """
        return self._records.identify(token)

    def find(self, name: str) -> Account | None:
        """Return an account."""
        return self._records.accounts.get(name)

    def is_person(self, name: str) -> bool:
        """Return True if there is an account of this name."""
        return name in self._records.accounts

    def as_signed_in(self, credential: Credential) -> SignedIn:
        """Return what a credential gives now."""
        return self._records.as_signed_in(credential)

    def find_credential(self, number: int) -> Credential | None:
        """Return a session or token that has not ended."""
        return self._records.book.find(number, self._clock())

    async def run(self) -> None:
        """End credentials when their time is up, and store their last uses, until cancelled."""
        stored_at = self._clock()
        while True:
            self._records.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._records.changed.wait(), self._pause() / 1_000)
            try:
                await self._end_due()
                if self._clock() - stored_at >= _LONGEST_PAUSE:
                    stored_at = self._clock()
                    await self._store_uses()
            except HiveError as error:
                if error.code not in TEMPORARY_ERRORS:
                    raise
                log.warning("cannot store what became of sessions", code=error.code)
            await self._refusals.report_left_out()

    async def close(self) -> None:
        """Store the last uses, and the number of refusals that are not audited."""
        with suppress(HiveError):
            await self._store_uses()
        await self._refusals.report_left_out(now_at_once=True)

    def _pause(self) -> int:
        end = self._records.book.next_end()
        left = _LONGEST_PAUSE if end is None else end - self._clock()
        return max(_SHORTEST_PAUSE, min(left, _LONGEST_PAUSE))

    async def _end_due(self) -> None:
        async with self._records.lock:
            due = self._records.book.due(self._clock())
            if not due:
                return
            await self._records.end([each.id for each in due])
            log.info("sessions or tokens have ended", count=len(due))

    async def _store_uses(self) -> None:
        uses = self._records.book.take_uses()
        if uses:
            await self._database.write(lambda db: store.store_uses(db, uses))
