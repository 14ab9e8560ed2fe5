"""API tokens, and the lists and ends of what people are signed in with."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import NamedTuple

from hive_core.errors import conflict, forbidden, not_found
from hive_core.infra.database import audit
from hive_core.people import store
from hive_core.people.records import DAY, PeopleRecords
from hive_core.people.signed_in import ROLES, Role
from hive_core.people.store import Account, Credential, CredentialKind

MOST_TOKENS = 50
"""Most API tokens of a person."""


class EndedCredentials(NamedTuple):
    """The number of sessions, tokens and links that have ended."""

    sessions: int
    tokens: int
    links: int


class PersonCredentials:
    """Makes API tokens, and lists and ends sessions and tokens."""

    def __init__(self, records: PeopleRecords) -> None:
        self._records = records

    async def make_token(
        self,
        owner: str,
        label: str,
        *,
        role: Role | None,
        agents: Collection[str] | None,
        days: float | None,
        actor: str,
    ) -> tuple[str, Credential]:
        """Make an API token and return its secret and itself.

        Raises HiveError `unknown_person`, `role_too_high`, `name_taken`, `too_many_tokens`.
        """
        async with self._records.lock:
            account = self._records.account(owner)
            role = role or account.role
            if ROLES.index(role) > ROLES.index(account.role):
                why = f"{owner} is {account.role}, and a token gives no more rights than its owner has"
                raise forbidden("role_too_high", why, "choose another role for the token")
            there = self.select("token", owner)
            if any(each.label == label for each in there):
                raise conflict("name_taken", f"{owner} has a token of this name already", "choose another name")
            if len(there) >= MOST_TOKENS:
                raise conflict("too_many_tokens", f"{owner} has {MOST_TOKENS} tokens", "revoke one of them first")
            now = self._records.clock()
            length = self._records.token_length if days is None else int(days * DAY)
            scope = None if agents is None else frozenset(agents)
            new = Credential(0, "token", "", owner, label, "", role, scope, now, 0, now + length)
            detail = {"name": label, "role": role, "agents": None if scope is None else sorted(scope)}
            return await self._records.begin(new, action="make_token", detail=detail, actor=actor)

    def select(self, kind: CredentialKind, person: str | None) -> list[Credential]:
        """Return the sessions or the tokens of a person, or of all people."""
        return [each for each in self._records.book.select(self._records.clock(), person) if each.kind == kind]

    async def revoke(self, number: int, kind: CredentialKind, person: str | None, actor: str) -> None:
        """End a session or a token, of `person` if that is given. Raises `unknown_session`, `unknown_token`."""
        async with self._records.lock:
            found = self._records.book.find(number, self._records.clock())
            if found is None or found.kind != kind or person not in (None, found.person):
                if kind == "session":
                    raise not_found("unknown_session", "there is no such session", "list the sessions")
                raise not_found("unknown_token", "there is no such API token", "list the tokens")
            detail = {"id": number, "person": found.person, **({"name": found.label} if kind == "token" else {})}
            await self._end([number], f"revoke_{kind}", found.person, actor, detail)

    async def sign_out(self, number: int, person: str) -> None:
        """End the session with which a person asks for it."""
        async with self._records.lock:
            await self._end([number], "sign_out", person, f"person:{person}", {"id": number})

    async def revoke_all(self, person: str | None, actor: str, *, tokens: bool, keep: int | None) -> EndedCredentials:
        """End all sessions of a person, or of all people, but for `keep`; with `tokens`, tokens and links, too.

        Raises `unknown_person`.
        """
        async with self._records.lock:
            if person is not None:
                self._records.account(person)
            sessions = [each for each in self._records.numbers_of(person, "session") if each != keep]
            ending = self._records.numbers_of(person, "token") if tokens else []
            links = 0

            def also(db: sqlite3.Connection) -> None:
                nonlocal links
                links = store.delete_links(db, person) if tokens else 0
                detail = {"sessions": len(sessions), "tokens": len(ending), "links": links}
                audit.append(db, actor=actor, action="revoke_all", subject=person or "*", detail=detail)

            await self._records.end([*sessions, *ending], also)
            return EndedCredentials(len(sessions), len(ending), links)

    async def _end(
        self, numbers: Collection[int], action: str, subject: str, actor: str, detail: dict[str, object]
    ) -> None:
        await self._records.end(
            numbers, lambda db: audit.append(db, actor=actor, action=action, subject=subject, detail=detail)
        )

    def account_of(self, credential: Credential) -> Account:
        """Return the account of a credential that has not ended."""
        return self._records.account(credential.person)
