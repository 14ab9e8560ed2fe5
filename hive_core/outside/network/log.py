"""The log of an agent's network: refusals, rules and requests, in the order in which they changed last."""

from __future__ import annotations

import asyncio
import sqlite3

from hive_core.infra.concurrency.wakeups import Wakeups
from hive_core.infra.database.database import Database, to_datetime
from hive_core.outside.network import store
from hive_core.outside.network.reports import store as report_store
from hive_core.outside.network.reports.store import RefusalRow
from hive_core.outside.network.store import RequestRow, RuleRow
from hive_core.outside.network.texts import REASONS, hours_in_words
from hive_core.protocol import LogsAnswer, LogsQuery
from hive_core.protocol.names import EVERYONE
from hive_core.text import Quoted

_MOST_NEW = 1_000
"""Lines after a cursor in one answer."""
_WIDTH = 300


class NetworkLog:
    """Reads the log of an agent, and waits for what is new."""

    def __init__(self, database: Database, wakeups: Wakeups) -> None:
        self._database = database
        self._wakeups = wakeups

    async def read(self, agent: str, query: LogsQuery) -> LogsAnswer:
        """Return the last lines, or wait for those after the cursor."""
        after = _parse(query.cursor)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + query.wait_seconds
        with self._wakeups.add_waiter(agent) as waiter:
            while True:
                lines, last = await self._database.scan(lambda db: _lines(db, agent, after, query.lines))
                over = loop.time() >= deadline or self._wakeups.closed
                if lines or after is None or over:
                    return LogsAnswer(lines=lines, cursor=str(last))
                await waiter.wait(deadline - loop.time())


def _parse(cursor: str | None) -> int | None:
    """Return the number of the change in a cursor; None if there is none, or none that this log has given."""
    return int(cursor) if cursor is not None and cursor.isascii() and cursor.isdigit() and len(cursor) < 19 else None


def _lines(db: sqlite3.Connection, agent: str, after: int | None, most: int) -> tuple[list[str], int]:
    last = store.last_change(db)
    start, most = (0, most) if after is None else (after, _MOST_NEW)
    found: list[tuple[int, str]] = []
    found += [(change, rule_line(row)) for change, row in store.changed_rules(db, (agent, EVERYONE), start, most)]
    found += [(change, request_line(row)) for change, row in store.changed_requests(db, (agent,), start, most)]
    found += [(change, refusal_line(row)) for change, row in report_store.changed_refusals(db, agent, start, most)]
    return [line for _, line in sorted(found)[-most:]], last


def rule_line(row: RuleRow) -> str:
    """Return a line about a rule."""
    what = {"allow": "allowed", "deny": "denied", "open": "opened everything"}[row.effect]
    what = f"{what} {row.entry}".strip() + (" for all agents" if row.agent == EVERYONE else "")
    until = f", until {_time(row.ends_at)}" if row.ends_at is not None else ""
    by = f"by {row.made_by}" if row.request is None else f"by {row.made_by} on request {row.request}"
    # The note of a rule that a request has made is the agent's reason.
    note = f": {Quoted(row.note).line(_WIDTH)}" if row.note else ""
    if row.ended_at is None:
        return f"{_time(row.made_at)} {what} {by}{until}{note}"
    return f"{_time(row.ended_at)} ended by {row.ended_by}: {what} {by} at {_time(row.made_at)}{until}{note}"


def request_line(row: RequestRow) -> str:
    """Return a line about a request."""
    asked = f"request {row.id} for {row.entry}, {hours_in_words(row.hours)}: {Quoted(row.why).line(_WIDTH)}"
    if row.decided_at is None:
        return f"{_time(row.asked_at)} asked: {asked}"
    if row.state == "expired":
        return f"{_time(row.decided_at)} expired, as nobody has decided: {asked}"
    note = f", saying {Quoted(row.note).line(_WIDTH)}" if row.note else ""
    return f"{_time(row.decided_at)} {row.state} by {row.decided_by}{note}: {asked}"


def refusal_line(row: RefusalRow) -> str:
    """Return a line about refusals of one host. Its name, and the detail, are words of the agent."""
    where = Quoted(f"{row.host}:{row.port}" if row.port else row.host).line(_WIDTH) if row.host else "other hosts"
    missing = f"; the rule {Quoted(row.missing).line(_WIDTH)} would allow it" if row.missing else ""
    detail = f"; {Quoted(row.detail).line(_WIDTH)}" if row.detail else ""
    times = "" if row.times == 1 else f", {row.times} times since {_time(row.first_at)}"
    return f"{_time(row.last_at)} refused {where}: {REASONS.get(row.reason, row.reason)}{times}{missing}{detail}"


def _time(at: int) -> str:
    return to_datetime(at).strftime("%Y-%m-%dT%H:%M:%SZ")
