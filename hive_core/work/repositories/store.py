"""SQL of the table `repositories`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hive_core.errors import not_found
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database, milliseconds
from hive_core.protocol import Check, CredentialKind, PushMode
from hive_core.text import shown


@dataclass(frozen=True)
class FetchFacts:
    """What the last fetch has found. `problem` and `advice` say why it failed and what to do; else they are empty."""

    problem: str = ""
    advice: str = ""
    code: str = ""
    refs: int = 0
    refs_left_out: int = 0
    lfs: bool = False
    submodules: bool = False


@dataclass(frozen=True)
class RepositoryRecord:
    """One registered repository.

    `source` is its URL, empty for one that the command line reads from `path` and sends. `branch` is empty until the
    first fetch if the operator has named none. `review` is who decides on proposals: `manager`, `operator`, `both` or
    `agent:<name>`. `credential` tells the kind of the secret in the credential store. `host_keys` are lines of
    known_hosts(5) that the operator has accepted. `check_hosts` are rules of the hosts that checks reach. `fetched_at`
    is in milliseconds since 1970.
    """

    name: str
    source: str
    path: str
    branch: str
    push: PushMode
    merges: bool
    review: str
    instructions: bool
    checks: tuple[Check, ...]
    credential: CredentialKind
    host_keys: tuple[str, ...]
    created_at: int
    fetched_at: int | None
    facts: FetchFacts = field(default_factory=FetchFacts)
    check_hosts: tuple[str, ...] = ()


_COLUMNS = """name, source, path, branch, push, merges, review, instructions, checks, credential, host_keys, created_at,
    fetched_at, facts, check_hosts"""


_LISTS = frozenset({"host_keys", "check_hosts"})
"""Columns with a list of texts."""


def load(db: sqlite3.Connection, review: str) -> list[RepositoryRecord]:
    """Return all repositories by name; `review` is that of the settings, for those that have none of their own."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM repositories ORDER BY name")  # noqa: S608 - constants
    return [_record(row, review) for row in rows]


def load_one(db: sqlite3.Connection, name: str, review: str) -> RepositoryRecord | None:
    """Return one repository as `load` does; None if there is none of this name."""
    row = db.execute(f"SELECT {_COLUMNS} FROM repositories WHERE name = ?", (name,)).fetchone()  # noqa: S608
    return None if row is None else _record(row, review)


def insert(db: sqlite3.Connection, name: str, values: Mapping[str, Any]) -> bool:
    """Store a new repository with the columns in `values`; returns False if there is one of this name."""
    columns = {"name": name, "created_at": milliseconds(), "facts": "{}", **_encoded(values)}
    marks = ", ".join("?" * len(columns))
    statement = f"INSERT INTO repositories ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
    return db.execute(statement, tuple(columns.values())).rowcount > 0


def update(db: sqlite3.Connection, name: str, values: Mapping[str, Any]) -> None:
    """Store the columns in `values` of a repository."""
    columns = _encoded(values)
    if columns:
        assigned = ", ".join(f"{column} = ?" for column in columns)
        db.execute(f"UPDATE repositories SET {assigned} WHERE name = ?", (*columns.values(), name))  # noqa: S608


def delete(db: sqlite3.Connection, name: str) -> None:
    """Delete a repository's row."""
    db.execute("DELETE FROM repositories WHERE name = ?", (name,))


def _encoded(values: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(values)
    if "checks" in found:
        found["checks"] = json.dumps([check.model_dump() for check in found["checks"]])
    for key in _LISTS & found.keys():
        found[key] = json.dumps(list(found[key]))
    if "facts" in found:
        found["facts"] = json.dumps(asdict(found["facts"]))
    return found


def _record(row: tuple[Any, ...], review: str) -> RepositoryRecord:
    name, source, path, branch, push, merges, own, instructions, checks, credential, keys, *rest = row
    created, fetched, facts, hosts = rest
    return RepositoryRecord(
        name,
        source,
        path,
        branch,
        push,
        bool(merges),
        own or review,
        bool(instructions),
        tuple(Check.model_validate(check) for check in json.loads(checks)),
        credential,
        tuple(json.loads(keys)),
        created,
        fetched,
        FetchFacts(**json.loads(facts)),
        tuple(json.loads(hosts)),
    )


class RecordTable:
    """The records in memory, a copy of the database's, and their changes with rows of the audit table."""

    def __init__(self, database: Database, review: str) -> None:
        """`review` is that of the settings."""
        self._database = database
        self._review = review
        self._records: dict[str, RepositoryRecord] = {}

    async def open(self) -> None:
        """Read the records."""
        found = await self._database.read(lambda db: load(db, self._review))
        self._records = {record.name: record for record in found}

    def all(self) -> list[RepositoryRecord]:
        """Return all repositories by name."""
        return [self._records[name] for name in sorted(self._records)]

    def find(self, name: str) -> RepositoryRecord | None:
        """Return a repository, None if there is none of this name."""
        return self._records.get(name)

    def get(self, name: str) -> RepositoryRecord:
        """Return a repository. Raises HiveError `unknown_repository`."""
        found = self._records.get(name)
        if found is None:
            hint = '"hive-c0re repo list" shows those that there are, "hive-c0re repo add" registers one'
            raise not_found("unknown_repository", f"there is no repository {shown(name)}", hint)
        return found

    async def write(
        self,
        name: str,
        change: Callable[[sqlite3.Connection], object],
        actor: str,
        action: str | None,
        detail: Mapping[str, object],
    ) -> None:
        """Change a row and append to the audit table (without `action`: not) in one transaction."""

        def write(db: sqlite3.Connection) -> RepositoryRecord | None:
            change(db)
            if action is not None:
                audit.append(db, actor=actor, action=action, subject=name, detail=detail)
            return load_one(db, name, self._review)

        record = await self._database.write(write)
        if record is None:
            self._records.pop(name, None)
        else:
            self._records[name] = record


def audited(values: Mapping[str, Any]) -> dict[str, object]:
    """Return what the audit table says of changed columns: no secret is among them."""
    found = {key: value for key, value in values.items() if key not in ("checks", *_LISTS, "source", "path")}
    if "checks" in values:
        found["checks"] = [check.model_dump() for check in values["checks"]]
    return found | {key: list(values[key]) for key in sorted(_LISTS & values.keys())}
