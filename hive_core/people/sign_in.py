"""Signing in, by a password or by a set-up link, and out."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from typing import NamedTuple

from hive_core.errors import HiveError, bad_request, conflict, forbidden
from hive_core.infra.database.database import Operation
from hive_core.people import store
from hive_core.people.attempts import Attempts, TooSoon, bucket
from hive_core.people.passwords import Passwords, TooManyPasswords
from hive_core.people.records import PeopleRecords, not_signed_in
from hive_core.people.refusals import RefusedSignIns
from hive_core.people.signed_in import SignedIn
from hive_core.people.store import Account, Credential, digest
from hive_core.protocol.names import is_person_name

LINK_MINUTES = 15
LINK_LENGTH = LINK_MINUTES * 60_000


class BegunSession(NamedTuple):
    """A session that has begun, with its secret."""

    secret: str
    credential: Credential
    account: Account


class SignIn:
    """Begins and ends sessions. Addresses are clean: see `attempts.clean_address`."""

    def __init__(self, records: PeopleRecords, passwords: Passwords, refusals: RefusedSignIns) -> None:
        self._records = records
        self._passwords = passwords
        self._refusals = refusals
        self._attempts = Attempts()
        self.forget_person = self._attempts.forget

    async def open(self) -> None:
        """Read the addresses from which people have signed in."""
        now = self._records.clock()
        for person, address, at in await self._records.database.read(store.load_addresses):
            self._attempts.know(person, address, min(at, now))

    async def sign_in(self, typed: str, password: str, address: str, replaced: str = "") -> BegunSession:
        """Begin a session. `replaced` is the secret of a session that ends by that, if it is the same person's.

        Raises:
            HiveError: `wrong_password`, also for a name that nobody has.
            TooSoon: the attempt has to wait.
            TooManyPasswords: too many others try to sign in.
        """
        name = typed.strip().lower() if typed.isascii() else ""
        account = self._records.accounts.get(name) if is_person_name(name) else None
        await self._check(name, account, password, address, "sign_in")
        assert account is not None
        stored = await self._rehashed(account, password)
        async with self._records.lock:
            current = self._records.accounts.get(name)
            if current is None or current.password != account.password:
                raise _wrong_password()  # Changed meanwhile.
            ending = self._replaced(name, replaced)
            return await self._begin(current._replace(password=stored), address, "sign_in", ending)

    async def change_password(self, by: SignedIn, old: str, new: str, address: str) -> BegunSession:
        """Store another password, end all sessions of the person, and begin a new one. Raises as `sign_in` does."""
        account = self._records.accounts.get(by.name)
        await self._check(by.name, account, old, address, "change_password")
        stored = await self._passwords.hash(new, f"person {by.name}")
        async with self._records.lock:
            current = self._records.accounts.get(by.name)
            if account is None or current is None or current.password != account.password:
                raise _wrong_password()
            if self._records.book.find(by.credential, self._records.clock()) is None:
                raise not_signed_in()
            changed = current._replace(password=stored, password_at=self._records.clock())
            return await self._begin(changed, address, "change_password", self._sessions_of(by.name))

    async def set_up(self, secret: str, name: str | None, password: str, address: str) -> BegunSession:
        """Use a set-up link: store the password, end all sessions of the person, and begin a new one.

        Raises HiveError `bad_link`, `name_taken`, `invalid_request`, and TooManyPasswords.
        """
        link = await self._records.database.read(lambda db: store.find_link(db, digest(secret)))
        if link is None or not 0 < link.ends_at - self._records.clock() <= LINK_LENGTH:
            await self._refusals.record("set_up", "", address, "bad_link")
            raise _bad_link()
        if link.person is not None and name not in (None, link.person):
            raise bad_request(f"the link is for the account {link.person}", "leave the name out")
        person = link.person or name
        if person is None:
            raise bad_request("the link is for no account yet", "choose a name for yours")
        stored = await self._passwords.hash(password, f"link {link.digest}")
        async with self._records.lock:
            now = self._records.clock()
            account = self._records.accounts.get(person)
            if (account is None) is (link.person is not None):
                raise _bad_link() if account is None else name_taken(person)
            changed = (account or Account(person, link.role, None, now))._replace(password=stored, password_at=now)

            def use(db: sqlite3.Connection) -> None:
                if not db.execute("DELETE FROM set_up_links WHERE digest = ?", (link.digest,)).rowcount:
                    raise _bad_link()
                if account is None and store.is_agent(db, person):
                    raise name_taken(person)

            ending, detail = self._sessions_of(person), {"link_by": link.made_by}
            return await self._begin(changed, address, "set_up", ending, use, detail)

    # --------------------------------------------------------------------------------------------------------

    async def _check(self, name: str, account: Account | None, password: str, address: str, action: str) -> None:
        """Raise HiveError `wrong_password`, TooSoon or TooManyPasswords unless this is the account's password."""
        now, place, is_person = self._records.clock(), bucket(address), account is not None
        known = self._attempts.is_known(name, place, now)
        try:
            self._attempts.begin(name, place, now, is_person=is_person)
        except TooSoon:
            await self._refusals.record(action, name if is_person else "", address, "too_many_sign_ins")
            raise
        party = f"known {name}" if known else f"address {place}"
        try:
            stored = None if account is None else account.password
            right = await self._passwords.is_right(stored, password, party, trusted=known)
        except TooManyPasswords:
            self._attempts.take_back(name, place, self._records.clock(), is_person=is_person)
            raise
        if not right:
            await self._refusals.record(action, name if is_person else "", address, "wrong_password")
            raise _wrong_password()
        self._attempts.succeed(name, place, self._records.clock())

    async def _rehashed(self, account: Account, password: str) -> str:
        """Return the hash of a right password, made anew if the parameters of hashes are others now."""
        assert account.password is not None
        if not self._passwords.is_outdated(account.password):
            return account.password
        return await self._passwords.hash(password, f"person {account.name}")

    def _replaced(self, name: str, secret: str) -> list[int]:
        records = self._records
        found = records.book.use(secret, records.clock()) if secret else None
        ending = records.surplus_sessions(name)
        if found is not None and found.kind == "session" and found.person == name:
            ending.append(found.id)
        return ending

    def _sessions_of(self, name: str) -> list[int]:
        return self._records.numbers_of(name, "session")

    async def _begin(
        self,
        account: Account,
        address: str,
        action: str,
        ending: Collection[int],
        before: Operation[object] = lambda _: None,
        detail: Mapping[str, object] | None = None,
    ) -> BegunSession:
        """Begin a session of `account`, which is stored with it. The caller must hold the lock."""
        records, now, place = self._records, self._records.clock(), bucket(address)
        account = account._replace(signed_in_at=now)
        ends_at = now + records.session_length
        new = Credential(0, "session", "", account.name, "", address, None, None, now, now, ends_at)

        def also(db: sqlite3.Connection) -> None:
            before(db)
            store.put_account(db, account)
            store.put_address(db, account.name, place, now)

        detail = {**(detail or {}), "address": address}
        before_this = records.accounts.get(account.name)
        secret, session = await records.begin(new, action=action, detail=detail, ending=ending, also=also)
        # Nothing else changes the account meanwhile, as the lock is held.
        assert records.accounts.get(account.name) is before_this
        records.accounts[account.name] = account
        self._attempts.know(account.name, place, now)
        return BegunSession(secret, session, account)


def _wrong_password() -> HiveError:
    hint = "try again; an operator on the host can give you a link to choose another: hive-c0re operator passwd NAME"
    return HiveError("wrong_password", "the name or the password is wrong", hint=hint, status=401)


def _bad_link() -> HiveError:
    hint = f"ask on the host for another one; it is good for {LINK_MINUTES} minutes: hive-c0re operator passwd NAME"
    return forbidden("bad_link", "the set-up link was used already, or is too old, or is none", hint)


def name_taken(name: str) -> HiveError:
    """Return the error for a name that an account or an agent has."""
    return conflict("name_taken", f"an account or an agent has the name {name!r} already", "choose another name")
