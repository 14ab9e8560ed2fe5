"""What holds for every refused request: the answer's shape, a row in the audit table, and that nothing changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.helpers.real_daemon import Daemon
from tests.integration.api.raw_http import Reply, request

TABLES = ("agents", "web_ports", "messages", "deliveries", "proposals", "questions", "reminders")
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Bad:
    """A request that must be refused. `body` that is not bytes is sent as JSON."""

    method: str
    target: str
    status: int
    code: str
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


def content(hive: Daemon) -> tuple[dict[str, list[Row]], list[str]]:
    """All that a request could change: the tables, and which files there are, tags and branches among them.

    An object in an applied repository that no tag leads to is none of it.
    """
    homes = [hive.state_dir / place for place in ("agents", "closures")]
    homes += (hive.state_dir / "applied").glob("*.git/refs")
    files = sorted(str(path.relative_to(hive.state_dir)) for home in homes for path in home.rglob("*"))
    return {table: hive.sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}, files


def audit_rows(hive: Daemon, after: int = 0) -> list[tuple[str, str, str, str]]:
    """Actor, action, subject and outcome of every row after that many."""
    return hive.sql("SELECT actor, action, subject, outcome FROM audit WHERE id > ? ORDER BY id", after)


async def new_caller(hive: Daemon, allowed: list[str] | None = None) -> str:
    """A new agent, of which no refusal has been written yet."""
    name = f"c{len(await hive.agents())}"
    await hive.ask("POST", "/v1/agents", {"name": name, "config": {"allowed_recipients": allowed}, "start": False})
    return name


@contextmanager
def nothing_changes(hive: Daemon) -> Iterator[None]:
    """The block leaves agents, messages and files as they were."""
    before = content(hive)
    yield
    assert content(hive) == before


async def check_refused(hive: Daemon, table: Sequence[Bad], agent: str | None = None) -> list[Reply]:
    """Send every request of the table as the operator or as `agent`; check each refusal and return the answers."""
    assert len(table) <= 30, "more refusals in a minute are not written one by one"
    place = hive.host_socket if agent is None else hive.core_socket(agent)
    actor = None if agent is None else f"manager:{agent}" if agent == "hm1nd" else f"agent:{agent}"
    replies = []
    with nothing_changes(hive):
        for bad in table:
            before = len(audit_rows(hive))
            reply = await request(place, bad.method, bad.target, bad.body, bad.headers)
            told = f"{bad.method} {bad.target[:80]} {str(bad.body)[:80]}: {reply.body[:300]!r}"
            assert reply.status == bad.status, told
            assert reply.code == bad.code, told
            assert len(reply.body) < 2_000, f"an answer as long as the request: {told}"
            ((who, action, subject, outcome),) = audit_rows(hive, before)
            assert (action, outcome) == ("request", bad.code), told
            assert subject.isprintable(), told
            assert len(subject) <= 200, told
            assert subject.startswith(f"{bad.method} /"), told
            assert who == actor if actor else who.startswith("operator:"), told
            replies.append(reply)
    return replies
