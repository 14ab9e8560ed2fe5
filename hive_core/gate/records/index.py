"""The table `proposals`, and its rows as they follow from the tags."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from hive_core.agents.grants import networks
from hive_core.gate.policy import has_approval_by_rule
from hive_core.gate.records import fetches, tag_message
from hive_core.gate.records.states import ENDORSED, OPEN, IllegalHistory, State, current_state, parse_tag_name, tag_name
from hive_core.gate.records.tag_message import ProposalFields, ProposalTag
from hive_core.infra.database.database import to_datetime
from hive_core.infra.git.objects import Tag
from hive_core.infra.git.repository import Repository
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import Proposal, ProposalsQuery

# In the order of the index `proposals_open`, which SQLite uses for this very condition only.
_OPEN = ", ".join(f"'{state}'" for state in State if state in OPEN)
_WHERE = {"open": f"state IN ({_OPEN})", "ended": f"state NOT IN ({_OPEN})", "all": "1"}


@dataclass(frozen=True, kw_only=True)
class ProposalRow(ProposalFields):
    """A proposal according to its tags: the fields of the last tag, the commit, and the times.

    `created_at` is the time of the first tag and `changed_at` of the last, in milliseconds since 1970.
    """

    commit: str
    created_at: int
    changed_at: int

    @classmethod
    def from_tag(cls, tag: ProposalFields, commit: str, *, created_at: int, changed_at: int) -> ProposalRow:
        """Return the row of a proposal whose last tag has the data `tag` and is on `commit`."""
        return cls(**_shared(tag), commit=commit, created_at=created_at, changed_at=changed_at)

    @property
    def open(self) -> bool:
        """True if the proposal has not ended."""
        return self.state in OPEN

    def tag(self, state: State, **changes: Any) -> ProposalTag:
        """Return the data of a tag of that state, with `changes`."""
        return ProposalTag(**{**_shared(self), "state": state, **changes})

    def to_protocol(self) -> Proposal:
        """Return the proposal as a model of the protocol."""
        values = {name: getattr(self, name) for name in Proposal.model_fields}
        expires_at = None if self.expires_at is None else to_datetime(self.expires_at)
        times = {"created_at": to_datetime(self.created_at), "changed_at": to_datetime(self.changed_at)}
        return Proposal(**{**values, **times, "state": self.state.value, "expires_at": expires_at})


def _shared(data: ProposalFields) -> dict[str, Any]:
    return {item.name: getattr(data, item.name) for item in fields(ProposalFields)}


_FIELDS = tuple(item.name for item in fields(ProposalRow))
_COLUMNS = ", ".join({"by": "proposer", "commit": "sha"}.get(name, name) for name in _FIELDS)
_PLACES = ", ".join("?" * len(_FIELDS))


def upsert(db: sqlite3.Connection, row: ProposalRow) -> None:
    """Store a row, or replace the one of that number."""
    values = {name: getattr(row, name) for name in _FIELDS}
    permission = None if row.allowed_fetches is None else fetches.to_json(row.allowed_fetches)
    values.update(state=row.state.value, approvals=json.dumps(row.approvals), allowed_fetches=permission)
    db.execute(f"INSERT OR REPLACE INTO proposals ({_COLUMNS}) VALUES ({_PLACES})", tuple(values.values()))  # noqa: S608


def upsert_all(db: sqlite3.Connection, rows: Sequence[ProposalRow]) -> None:
    """Store several rows."""
    for row in rows:
        upsert(db, row)


def replace_all(db: sqlite3.Connection, agent: str, rows: Sequence[ProposalRow]) -> None:
    """Store `rows` in place of all rows of the agent."""
    delete_rows(db, agent)
    upsert_all(db, rows)


def delete_rows(db: sqlite3.Connection, agent: str, numbers: Collection[int] | None = None) -> None:
    """Remove the rows of an agent, or only those with these numbers."""
    if numbers is None:
        db.execute("DELETE FROM proposals WHERE agent = ?", (agent,))
    else:
        db.executemany("DELETE FROM proposals WHERE agent = ? AND number = ?", [(agent, number) for number in numbers])


def forget(db: sqlite3.Connection, agent: str) -> None:
    """Remove all that is known of the proposals of an agent that was purged."""
    delete_rows(db, agent)
    networks.forget(db, agent)


def find(db: sqlite3.Connection, agent: str, number: int) -> ProposalRow | None:
    """Return one proposal, or None."""
    return next(_rows(db, "agent = ? AND number = ?", (agent, number)), None)


def of_agent(db: sqlite3.Connection, agent: str) -> list[ProposalRow]:
    """Return all proposals of an agent, the oldest first."""
    return list(_rows(db, "agent = ?", (agent,)))


def open_of(db: sqlite3.Connection, agent: str) -> list[ProposalRow]:
    """Return the open proposals of an agent, the oldest first."""
    # With the plus, SQLite uses the index of open proposals, which are few, and not that of the agent's proposals.
    return list(_rows(db, f"+agent = ? AND {_WHERE['open']}", (agent,)))


def deployment_in_progress(db: sqlite3.Connection, agent: str) -> ProposalRow | None:
    """Return the approved proposal of the agent that is not deployed yet; there is at most one."""
    return next(_rows(db, f"+agent = ? AND {_WHERE['open']} AND state = 'approved'", (agent,)), None)


def last_rebuild(db: sqlite3.Connection, agent: str) -> ProposalRow | None:
    """Return the newest rebuild of the agent, open or ended."""
    return next(_rows(db, "agent = ? AND kind = 'rebuild'", (agent,), "number DESC LIMIT 1"), None)


def rebuilds(db: sqlite3.Connection, since: int) -> tuple[int, int]:
    """Return the numbers of open rebuilds and of rebuilds that have failed since a time, of all agents."""
    (opened,) = db.execute(f"SELECT count(*) FROM proposals WHERE {_WHERE['open']} AND kind = 'rebuild'").fetchone()  # noqa: S608
    query = "SELECT count(*) FROM proposals WHERE state = 'failed' AND kind = 'rebuild' AND changed_at >= ?"
    (failed,) = db.execute(query, (since,)).fetchone()
    return int(opened), int(failed)


def count_since(db: sqlite3.Connection, agent: str, since: int) -> int:
    """Return the number of proposals that the agent has got since a time."""
    query = "SELECT count(*) FROM proposals WHERE created_at >= ? AND +agent = ?"
    (count,) = db.execute(query, (since, agent)).fetchone()
    return int(count)


def expired(db: sqlite3.Connection, now: int) -> list[ProposalRow]:
    """Return the open proposals that have expired."""
    return list(_rows(db, f"{_WHERE['open']} AND expires_at <= ?", (now,), "created_at"))


def next_number(db: sqlite3.Connection, agent: str) -> int:
    """Return the number of the agent's next proposal."""
    (last,) = db.execute("SELECT max(number) FROM proposals WHERE agent = ?", (agent,)).fetchone()
    return 0 if last is None else int(last) + 1


def last_deployed(db: sqlite3.Connection, agent: str, below: int | None = None) -> ProposalRow | None:
    """Return the newest deployment of a configuration, or the newest one with a number below `below`."""
    where = "agent = ? AND state = 'deployed' AND kind != 'destroy' AND (? IS NULL OR number < ?)"
    return next(_rows(db, where, (agent, below, below), "number DESC LIMIT 1"), None)


def last_decided(db: sqlite3.Connection, agent: str) -> ProposalRow | None:
    """Return the newest deployment of a configuration that no rule has approved."""
    rows = _rows(db, "agent = ? AND state = 'deployed' AND kind != 'destroy'", (agent,), "number DESC")
    return next((row for row in rows if not has_approval_by_rule(row.approvals)), None)


def ended_before(db: sqlite3.Connection, agent: str, before: int) -> list[ProposalRow]:
    """Return the proposals of the agent that ended before a time without being deployed, the oldest first."""
    where = f"agent = ? AND {_WHERE['ended']} AND state != 'deployed' AND changed_at < ?"
    return list(_rows(db, where, (agent, before)))


def deployments(db: sqlite3.Connection, agent: str, limit: int, offset: int = 0) -> list[ProposalRow]:
    """Return deployments of the agent, the newest first."""
    order = "number DESC LIMIT ? OFFSET ?"
    return list(_rows(db, "agent = ? AND state = 'deployed'", (agent, limit, offset), order))


def select(db: sqlite3.Connection, query: ProposalsQuery, sees: Sight = EVERYTHING) -> tuple[list[ProposalRow], int]:
    """Return the proposals that match the query, the newest first, and their number without its limit."""
    where, values = f"{_WHERE[query.state]} AND {sees.condition('agent', '?')}", [sees.names]
    if query.agent is not None:
        where, values = f"{where} AND agent = ?", [*values, query.agent]
    (total,) = db.execute(f"SELECT count(*) FROM proposals WHERE {where}", values).fetchone()  # noqa: S608
    order = "created_at DESC, agent, number DESC LIMIT ? OFFSET ?"
    return list(_rows(db, where, (*values, query.limit, query.offset), order)), int(total)


def spawners(db: sqlite3.Connection) -> dict[str, str]:
    """Return the label of the party that asked for each agent's last spawn, by agent."""
    query = "SELECT agent, proposer FROM proposals WHERE state = 'deployed' AND kind = 'spawn' ORDER BY agent, number"
    return dict(db.execute(query))


def agents(db: sqlite3.Connection) -> set[str]:
    """Return all agents with proposals."""
    return {name for (name,) in db.execute("SELECT DISTINCT agent FROM proposals")}


def numbers_to_complete(db: sqlite3.Connection, agent: str) -> set[int]:
    """Return the numbers of rows from an older hyperhive, which did not store `start` and `purge`."""
    return {
        number for (number,) in db.execute("SELECT number FROM proposals WHERE agent = ? AND purge IS NULL", (agent,))
    }


def _rows(db: sqlite3.Connection, where: str, values: Sequence[object], order: str = "number") -> Iterator[ProposalRow]:
    for stored in db.execute(f"SELECT {_COLUMNS} FROM proposals WHERE {where} ORDER BY {order}", values):  # noqa: S608
        row = dict(zip(_FIELDS, stored, strict=True))
        row.update(state=State(row["state"]), approvals=json.loads(row["approvals"]))
        row.update(purge=bool(row["purge"]), start=row["start"] != 0)
        row.update(allowed_fetches=fetches.parse_permission(row["allowed_fetches"]))
        yield ProposalRow(**row)


def agents_with_repository(applied: Path) -> set[str]:
    """Return the names of all agents with a repository in the directory `applied`, existing or destroyed ones."""
    return {path.name.removesuffix(".git") for path in applied.glob("*.git")}


def states_from_tags(names: Iterable[str]) -> dict[int, set[State]]:
    """Return the states of each proposal from the names of its tags. Raises IllegalHistory for other names."""
    states: defaultdict[int, set[State]] = defaultdict(set)
    for name in names:
        parsed = parse_tag_name(name)
        if parsed is None:
            raise IllegalHistory(f"{name} is no tag of the gate")
        state, number = parsed
        if state is not None:
            states[number].add(state)
    return dict(states)


def last_tag(names: Mapping[str, object] | set[str], number: int, states: set[State]) -> str:
    """Return the name of a proposal's last tag. Raises IllegalHistory for an impossible set of states."""
    state = current_state(states)
    endorsed = tag_name(ENDORSED, number)
    return endorsed if state is State.BUILT and endorsed in names else tag_name(state, number)


def rows_from_tags(tags: Iterable[Tag]) -> list[ProposalRow]:
    """Return the rows of all proposals with these tags. Raises IllegalHistory, or ValueError for a wrong message."""
    by_name = {tag.name: tag for tag in tags}
    rows = []
    for number, states in sorted(states_from_tags(by_name).items()):
        tag = by_name[last_tag(by_name, number, states)]
        first = by_name[tag_name(State.PROPOSAL, number)]
        data = tag_message.parse_message(tag.message)
        if data.kind in ("spawn", "destroy"):
            # Older daemons wrote these two into the first tags only.
            request = tag_message.parse_message(first.message)
            data = replace(data, start=request.start, purge=request.purge)
        commit = data.pruned or tag.target
        rows.append(ProposalRow.from_tag(data, commit, created_at=first.when * 1_000, changed_at=tag.when * 1_000))
    return rows


def rows_of_repository(repository: Repository) -> list[ProposalRow]:
    """Return the rows of all proposals in a repository. Raises as `rows_from_tags`."""
    return rows_from_tags(repository.read_tags())
