"""The table `work`, and its rows as they follow from the tags."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from hive_core.gate.records.index import last_tag, states_from_tags
from hive_core.gate.records.states import OPEN, State, tag_name
from hive_core.infra.database.database import to_datetime
from hive_core.infra.git.objects import Tag
from hive_core.infra.git.repository import Repository
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import WorkProposal, WorksQuery
from hive_core.work.gate.records import work_tag
from hive_core.work.gate.records.work_tag import PUBLISHED, WorkFields, WorkTag

# In the order of the index `work_open`, which SQLite uses for this very condition only.
_OPEN = ", ".join(f"'{state}'" for state in State if state in OPEN)
_WHERE = {"open": f"state IN ({_OPEN})", "ended": f"state NOT IN ({_OPEN})", "all": "1"}


@dataclass(frozen=True, kw_only=True)
class WorkRow(WorkFields):
    """A proposal according to its tags: the fields of the last tag, the commit, and the times in milliseconds."""

    commit: str
    created_at: int
    changed_at: int

    @classmethod
    def from_tag(cls, tag: WorkFields, commit: str, *, created_at: int, changed_at: int) -> WorkRow:
        """Return the row of a proposal whose last tag has the data `tag` and is on `commit`."""
        return cls(**_shared(tag), commit=commit, created_at=created_at, changed_at=changed_at)

    @property
    def name(self) -> str:
        """The proposal as people name it, such as `web/3`."""
        return f"{self.repo}/{self.number}"

    @property
    def open(self) -> bool:
        """True if the proposal has not ended."""
        return self.state in OPEN

    def tag(self, state: State, **changes: Any) -> WorkTag:
        """Return the data of a tag of that state, with `changes`."""
        return WorkTag(**{**_shared(self), "state": state, **changes})

    def to_protocol(self) -> WorkProposal:
        """Return the proposal as a model of the protocol."""
        values = {name: getattr(self, name) for name in WorkProposal.model_fields}
        expires_at = None if self.expires_at is None else to_datetime(self.expires_at)
        times = {"created_at": to_datetime(self.created_at), "changed_at": to_datetime(self.changed_at)}
        return WorkProposal(**{**values, **times, "state": self.state.value, "expires_at": expires_at})


def _shared(data: WorkFields) -> dict[str, Any]:
    return {item.name: getattr(data, item.name) for item in fields(WorkFields)}


_FIELDS = tuple(item.name for item in fields(WorkRow))
_COLUMNS = ", ".join({"by": "proposer", "commit": "sha"}.get(name, name) for name in _FIELDS)
_PLACES = ", ".join("?" * len(_FIELDS))


def upsert_all(db: sqlite3.Connection, rows: Sequence[WorkRow]) -> None:
    """Store rows, or replace those of the same numbers."""
    for row in rows:
        values = {name: getattr(row, name) for name in _FIELDS}
        values.update(state=row.state.value, approvals=json.dumps(row.approvals))
        db.execute(f"INSERT OR REPLACE INTO work ({_COLUMNS}) VALUES ({_PLACES})", tuple(values.values()))  # noqa: S608


def replace_all(db: sqlite3.Connection, repo: str, rows: Sequence[WorkRow]) -> None:
    """Store `rows` in place of all rows of the repository."""
    delete_rows(db, repo)
    upsert_all(db, rows)


def delete_rows(db: sqlite3.Connection, repo: str, numbers: Collection[int] | None = None) -> None:
    """Remove the rows of a repository, or only those with these numbers."""
    if numbers is None:
        db.execute("DELETE FROM work WHERE repo = ?", (repo,))
    else:
        db.executemany("DELETE FROM work WHERE repo = ? AND number = ?", [(repo, number) for number in numbers])


def find(db: sqlite3.Connection, repo: str, number: int) -> WorkRow | None:
    """Return one proposal, or None."""
    return next(_rows(db, "repo = ? AND number = ?", (repo, number)), None)


def of_repo(db: sqlite3.Connection, repo: str) -> list[WorkRow]:
    """Return all proposals for a repository, the oldest first."""
    return list(_rows(db, "repo = ?", (repo,)))


def open_of(db: sqlite3.Connection, repo: str) -> list[WorkRow]:
    """Return the open proposals for a repository, the oldest first."""
    # With the plus, SQLite uses the index of open proposals, which are few.
    return list(_rows(db, f"+repo = ? AND {_WHERE['open']}", (repo,)))


def approved_of(db: sqlite3.Connection, repo: str) -> list[WorkRow]:
    """Return the proposals that wait for their landing, in the order of their approvals."""
    where = f"+repo = ? AND {_WHERE['open']} AND state = 'approved'"
    return list(_rows(db, where, (repo,), "changed_at, number"))


def unpublished(db: sqlite3.Connection) -> list[WorkRow]:
    """Return landed proposals without a link, whose repository may want them published."""
    return list(_rows(db, "state = 'deployed' AND link = ''", (), "changed_at, number"))


def landed_with(db: sqlite3.Connection, repo: str, commit: str) -> WorkRow | None:
    """Return the proposal that moved the branch to a commit, or None."""
    return next(_rows(db, "repo = ? AND state = 'deployed' AND landed = ?", (repo, commit)), None)


def count_since(db: sqlite3.Connection, by: str, since: int) -> int:
    """Return the number of proposals that a party has made since a time."""
    query = "SELECT count(*) FROM work WHERE created_at >= ? AND +proposer = ?"
    (count,) = db.execute(query, (since, by)).fetchone()
    return int(count)


def expired(db: sqlite3.Connection, now: int) -> list[WorkRow]:
    """Return the open proposals that have expired."""
    return list(_rows(db, f"{_WHERE['open']} AND expires_at <= ?", (now,), "created_at"))


def ended_before(db: sqlite3.Connection, repo: str, before: int) -> list[WorkRow]:
    """Return the proposals that ended before a time without being landed, the oldest first."""
    where = f"repo = ? AND {_WHERE['ended']} AND state != 'deployed' AND changed_at < ?"
    return list(_rows(db, where, (repo, before)))


def next_number(db: sqlite3.Connection, repo: str) -> int:
    """Return the number of the next proposal, which is 1 for the first."""
    (last,) = db.execute("SELECT max(number) FROM work WHERE repo = ?", (repo,)).fetchone()
    return 1 if last is None else int(last) + 1


def select(
    db: sqlite3.Connection,
    query: WorksQuery,
    *,
    seen_by: str | None,
    reviews: Collection[str],
    sees: Sight = EVERYTHING,
) -> tuple[list[WorkRow], int]:
    """Return the proposals that match the query, the newest first, and their number without its limit.

    With `seen_by`, only those that this agent made, and those of the repositories `reviews`; `sees` are the agents
    whose work is told.
    """
    where, values = f"{_WHERE[query.state]} AND {sees.condition('proposer', '?')}", list[object]([sees.names])
    if query.repo is not None:
        where, values = f"{where} AND repo = ?", [*values, query.repo]
    if seen_by is not None:
        where += f" AND (proposer = ? OR repo IN ({', '.join('?' * len(reviews))}))"
        values += [seen_by, *sorted(reviews)]
    (total,) = db.execute(f"SELECT count(*) FROM work WHERE {where}", values).fetchone()  # noqa: S608
    order = "created_at DESC, repo, number DESC LIMIT ? OFFSET ?"
    return list(_rows(db, where, (*values, query.limit, query.offset), order)), int(total)


def repos(db: sqlite3.Connection) -> set[str]:
    """Return all repositories with proposals."""
    return {name for (name,) in db.execute("SELECT DISTINCT repo FROM work")}


def _rows(db: sqlite3.Connection, where: str, values: Sequence[object], order: str = "number") -> Iterator[WorkRow]:
    for stored in db.execute(f"SELECT {_COLUMNS} FROM work WHERE {where} ORDER BY {order}", values):  # noqa: S608
        row = dict(zip(_FIELDS, stored, strict=True))
        row.update(state=State(row["state"]), approvals=json.loads(row["approvals"]))
        yield WorkRow(**row)


def is_published(name: str) -> bool:
    """Return True for the name of a tag that records a publication, which is no state."""
    return name.startswith(f"{PUBLISHED}/")


def last_name(names: Collection[str], number: int, states: set[State]) -> str:
    """Return the name of a proposal's last tag. Raises IllegalHistory for an impossible set of states."""
    published = tag_name(PUBLISHED, number)
    last = last_tag(set(names), number, states)
    return published if published in names and State.DEPLOYED in states else last


def rows_from_tags(tags: Iterable[Tag]) -> list[WorkRow]:
    """Return the rows of all proposals with these tags. Raises IllegalHistory, or ValueError for a wrong message."""
    by_name = {tag.name: tag for tag in tags}
    rows = []
    for number, states in sorted(states_from_tags(name for name in by_name if not is_published(name)).items()):
        tag = by_name[last_name(by_name, number, states)]
        first = by_name[tag_name(State.PROPOSAL, number)]
        data = work_tag.parse_message(tag.message)
        commit = data.pruned or tag.target
        rows.append(WorkRow.from_tag(data, commit, created_at=first.when * 1_000, changed_at=tag.when * 1_000))
    return rows


def rows_of_repository(repository: Repository) -> list[WorkRow]:
    """Return the rows of all proposals in a work repository. Raises as `rows_from_tags`."""
    return rows_from_tags(repository.read_tags())
