"""The accounts and credentials in memory, and every change of them."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Collection, Mapping

from hive_core.errors import HiveError, not_found
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database, Operation
from hive_core.people import store
from hive_core.people.credentials import CredentialBook
from hive_core.people.signed_in import Role, SignedIn, least_role
from hive_core.people.store import Account, Credential, CredentialKind, digest
from hive_core.protocol.people.settings import AccountSettings
from hive_core.protocol.people.sign_in import MOST_TOKEN_DAYS
from hive_core.text import shown

HOUR = 3_600_000
DAY = 24 * HOUR
MOST_PEOPLE = 1_000
MOST_SESSIONS = 50
"""Most sessions of a person; a new one ends the one that was used longest ago."""
_PREFIXES: Mapping[CredentialKind, str] = {"session": "hs_", "token": "ht_"}
_LONGEST_SECRET = 100


def not_signed_in() -> HiveError:
    """Return the error for a request whose session or token is none, or has ended."""
    hint = "sign in again; for a script, make another API token"
    return HiveError("not_signed_in", "the session or the API token has ended, or is none", hint=hint, status=401)


def new_secret(prefix: str) -> str:
    """Return a secret of 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


class PeopleRecords:
    """The accounts by name and their credentials: copies of the database's.

    Changes hold `lock`, so that nothing begins for an account while it changes. What ends, ends in memory first.
    """

    def __init__(self, database: Database, settings: AccountSettings, clock: Callable[[], int]) -> None:
        self.database = database
        self.clock = clock
        self.lock = asyncio.Lock()
        self.accounts: dict[str, Account] = {}
        self.session_length = int(settings.session_days * DAY)
        self.token_length = int(settings.token_days * DAY)
        self.book = CredentialBook(int(settings.idle_hours * HOUR))
        self.ended: list[Callable[[int], None]] = []
        self.changed = asyncio.Event()
        """Set when a credential was added."""

    async def open(self) -> None:
        """Read all accounts and credentials. None lasts longer than a new one, also if the clock was set back."""
        accounts, credentials = await self.database.read(
            lambda db: (store.load_accounts(db), store.load_credentials(db))
        )
        now = self.clock()
        self.accounts = {account.name: account for account in accounts}
        for each in credentials:
            made_at = min(each.made_at, now)
            longest = self.session_length if each.kind == "session" else int(MOST_TOKEN_DAYS * DAY)
            ends_at = min(each.ends_at, made_at + longest)
            self.book.add(each._replace(made_at=made_at, used_at=min(each.used_at, now), ends_at=ends_at))

    def account(self, name: str) -> Account:
        """Return an account. Raises `unknown_person`."""
        found = self.accounts.get(name)
        if found is None:
            hint = '"hive-c0re operator list" shows the accounts'
            raise not_found("unknown_person", f"there is no account {shown(name)}", hint)
        return found

    def identify(self, secret: str) -> SignedIn:
        """Return the person whose session or token this is, and note its use. Raises `not_signed_in`."""
        found = self.book.use(secret, self.clock()) if len(secret) <= _LONGEST_SECRET else None
        if found is None:
            raise not_signed_in()
        return self.as_signed_in(found)

    def as_signed_in(self, credential: Credential) -> SignedIn:
        """Return what a credential gives now."""
        return SignedIn(credential.person, self.role_of(credential), credential.kind, credential.id, credential.agents)

    def role_of(self, credential: Credential) -> Role:
        """Return the role that a credential gives: at most that of its account."""
        role = self.accounts[credential.person].role
        return role if credential.role is None else least_role(credential.role, role)

    # --- changes; the caller must hold the lock ---------------------------------------------------------------

    async def begin(
        self,
        new: Credential,
        *,
        action: str,
        detail: Mapping[str, object] | None = None,
        actor: str = "",
        ending: Collection[int] = (),
        also: Operation[object] = lambda _: None,
    ) -> tuple[str, Credential]:
        """Store a new credential in one step with what else changes, and return its secret and itself.

        `new` has neither a number nor a digest yet. The credentials `ending` end.
        """
        secret = new_secret(_PREFIXES[new.kind])
        new = new._replace(digest=digest(secret))
        actor = actor or f"person:{new.person}"

        def write(db: sqlite3.Connection) -> int:
            also(db)
            store.delete_credentials(db, ending)
            number = store.insert_credential(db, new)
            subject = f"{new.kind} {number}"
            audit.append(db, actor=actor, action=action, subject=subject, detail={**(detail or {}), "id": number})
            return number

        number = await self.database.write(write)
        new = new._replace(id=number)
        self.forget(ending)
        self.book.add(new)
        self.changed.set()
        return secret, new

    async def end(self, numbers: Collection[int], also: Operation[object] = lambda _: None) -> None:
        """End credentials, in memory at once, and store that in one step with what else changes.

        If it cannot be stored, an error says so, and they would be valid again after a restart.
        """
        self.forget(numbers)

        def write(db: sqlite3.Connection) -> None:
            also(db)
            store.delete_credentials(db, numbers)

        await self.database.write_urgently(write)

    def forget(self, numbers: Collection[int]) -> None:
        """End credentials in memory, and the requests that they carry."""
        self.book.remove(numbers)
        self.end_requests(numbers)

    def end_requests(self, numbers: Collection[int]) -> None:
        """Say of credentials that they have ended or give other rights."""
        for number in numbers:
            for call in self.ended:
                call(number)

    def numbers_of(self, person: str | None, kind: CredentialKind | None = None) -> list[int]:
        """Return the numbers of the credentials of a person, or of all people."""
        found = self.book.select(self.clock(), person)
        return [each.id for each in found if kind in (None, each.kind)]

    def surplus_sessions(self, person: str) -> list[int]:
        """Return the sessions that have to end before another one begins."""
        found = [each for each in self.book.select(self.clock(), person) if each.kind == "session"]
        found.sort(key=lambda each: each.used_at, reverse=True)
        return [each.id for each in found[MOST_SESSIONS - 1 :]]
