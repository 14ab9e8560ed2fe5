"""The tables of accounts, credentials and set-up links."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from hive_core.people.signed_in import Role

CredentialKind = Literal["session", "token"]
MOST_ADDRESSES = 20
"""Addresses of a person that are remembered."""


class Account(NamedTuple):
    """An account. `password` is a hash, None until a set-up link was used."""

    name: str
    role: Role
    password: str | None
    made_at: int
    password_at: int | None = None
    signed_in_at: int | None = None


class Credential(NamedTuple):
    """A session or an API token as it is stored: with the digest in place of the secret."""

    id: int
    kind: CredentialKind
    digest: str
    person: str
    label: str
    address: str
    role: Role | None
    agents: frozenset[str] | None
    made_at: int
    used_at: int
    ends_at: int


class StoredLink(NamedTuple):
    """A set-up link. `person` is None if its user chooses the name."""

    digest: str
    person: str | None
    role: Role
    made_by: str
    ends_at: int


def digest(secret: str) -> str:
    """Return the digest of a secret, which is 32 random bytes and so needs no salt."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


# --- accounts -------------------------------------------------------------------------------------------------


def load_accounts(db: sqlite3.Connection) -> list[Account]:
    """Return all accounts."""
    query = "SELECT name, role, password, made_at, password_at, signed_in_at FROM people"
    return [Account(*row) for row in db.execute(query)]


def is_agent(db: sqlite3.Connection, name: str) -> bool:
    """Return True if there is an agent of this name."""
    return db.execute("SELECT 1 FROM agents WHERE name = ?", (name,)).fetchone() is not None


def put_account(db: sqlite3.Connection, account: Account) -> None:
    """Store an account that is new, or has changed."""
    db.execute("INSERT OR REPLACE INTO people VALUES (?, ?, ?, ?, ?, ?)", account)


def delete_account(db: sqlite3.Connection, name: str) -> None:
    """Delete an account with all that belongs to it."""
    for table in ("person_credentials", "set_up_links", "person_addresses"):
        db.execute(f"DELETE FROM {table} WHERE person = ?", (name,))  # noqa: S608
    db.execute("DELETE FROM people WHERE name = ?", (name,))


# --- credentials ----------------------------------------------------------------------------------------------

_COLUMNS = "kind, digest, person, label, address, role, agents, made_at, used_at, ends_at"


def load_credentials(db: sqlite3.Connection) -> list[Credential]:
    """Return all sessions and tokens."""
    found = []
    for row in db.execute(f"SELECT id, {_COLUMNS} FROM person_credentials ORDER BY id"):  # noqa: S608
        agents = None if row[7] is None else frozenset(json.loads(row[7]))
        found.append(Credential._make((*row[:7], agents, *row[8:])))
    return found


def insert_credential(db: sqlite3.Connection, new: Credential) -> int:
    """Store a credential, and return its number."""
    agents = None if new.agents is None else json.dumps(sorted(new.agents))
    row = (*new[1:7], agents, *new[8:])
    cursor = db.execute(f"INSERT INTO person_credentials ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def delete_credentials(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Delete sessions and tokens."""
    db.executemany("DELETE FROM person_credentials WHERE id = ?", [(number,) for number in numbers])


def store_uses(db: sqlite3.Connection, uses: Sequence[tuple[int, int]]) -> None:
    """Store when credentials were used last: pairs of number and time."""
    db.executemany("UPDATE person_credentials SET used_at = ?2 WHERE id = ?1", uses)


# --- links and addresses --------------------------------------------------------------------------------------


def put_link(db: sqlite3.Connection, new: StoredLink, now: int) -> None:
    """Store a link in place of earlier ones for the same person; delete those whose time is up."""
    db.execute("DELETE FROM set_up_links WHERE ends_at <= ? OR person IS ?", (now, new.person))
    db.execute("INSERT INTO set_up_links (digest, person, role, made_by, ends_at) VALUES (?, ?, ?, ?, ?)", new)


def find_link(db: sqlite3.Connection, wanted: str) -> StoredLink | None:
    """Return the link with this digest."""
    query = "SELECT digest, person, role, made_by, ends_at FROM set_up_links WHERE digest = ?"
    row = db.execute(query, (wanted,)).fetchone()
    return None if row is None else StoredLink(*row)


def linked_people(db: sqlite3.Connection, now: int) -> set[str]:
    """Return the people for whom there is a link that can be used."""
    query = "SELECT person FROM set_up_links WHERE ends_at > ? AND person IS NOT NULL"
    return {name for (name,) in db.execute(query, (now,))}


def delete_links(db: sqlite3.Connection, person: str | None) -> int:
    """Delete the links for a person, or all with None, and return their number."""
    return db.execute("DELETE FROM set_up_links WHERE ?1 IS NULL OR person = ?1", (person,)).rowcount


def load_addresses(db: sqlite3.Connection) -> list[tuple[str, str, int]]:
    """Return the people with the addresses from which they have signed in, and when."""
    return db.execute("SELECT person, address, at FROM person_addresses").fetchall()


def put_address(db: sqlite3.Connection, person: str, address: str, now: int) -> None:
    """Remember an address from which a person has signed in, and forget the oldest of too many."""
    db.execute("INSERT OR REPLACE INTO person_addresses VALUES (?, ?, ?)", (person, address, now))
    db.execute(
        "DELETE FROM person_addresses WHERE person = ?1 AND address NOT IN "
        "(SELECT address FROM person_addresses WHERE person = ?1 ORDER BY at DESC, address LIMIT ?2)",
        (person, MOST_ADDRESSES),
    )
