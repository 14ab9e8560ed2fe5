"""Agents' requests to reach a host, and the decisions on them, which make rules with an end."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Literal

import structlog

from hive_core.errors import HiveError, conflict
from hive_core.gate.policy import Principal
from hive_core.infra.database import audit
from hive_core.infra.database.database import TEMPORARY_ERRORS, Database, to_datetime
from hive_core.messaging import Broker
from hive_core.messaging.question_store import check_exists
from hive_core.outside.network import store, texts
from hive_core.outside.network.rule_book import TIME, RuleBook, RuleChange, replace_rule
from hive_core.outside.network.rules import has_room
from hive_core.outside.network.store import RequestRow, RuleRow
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import (
    ApproveHost,
    AskForHost,
    DenyHost,
    NetworkRequest,
    NetworkRequestList,
    NetworkRequestsQuery,
)
from hive_core.protocol.names import MANAGER, OPERATOR
from hive_core.protocol.network.access import REQUEST_DAYS

log = structlog.get_logger(__name__)

MOST_OPEN = 10
"""Open requests of one agent."""
_HOUR = 3_600_000
_LONGEST = REQUEST_DAYS * 24 * _HOUR
HostDecider = Literal["manager", "operator"]


class HostRequests:
    """The requests of agents. Each is decided once; the agent gets a message about the decision."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        book: RuleBook,
        decider_of: Callable[[str], HostDecider],
        clock: Callable[[], int],
    ) -> None:
        """`decider_of` returns who decides on the requests of an agent."""
        self._database = database
        self._broker = broker
        self._book = book
        self._decider_of = decider_of
        self._clock = clock
        self._open: dict[int, tuple[str, int]] = {}
        """The agents of open requests, and when they asked."""

    async def open(self) -> None:
        """Read which requests are open."""
        rows = await self._database.read(store.open_requests)
        self._open = {row.id: (row.agent, row.asked_at) for row in rows}

    def count_open(self, agent: str) -> int:
        """Return how many requests of an agent are open."""
        return sum(1 for asker, _ in self._open.values() if asker == agent)

    def count_waiting(self, decider: HostDecider, sees: Sight = EVERYTHING) -> int:
        """Return how many requests wait for somebody."""
        return sum(1 for agent, _ in self._open.values() if self._decider_of(agent) == decider and sees(agent))

    def next_end(self) -> int | None:
        """Return when the next request expires."""
        return min((asked_at + _LONGEST for _, asked_at in self._open.values()), default=None)

    def forget(self, agent: str) -> None:
        """Forget the requests of an agent that is gone; the database has removed them with the agent."""
        self._open = {number: found for number, found in self._open.items() if found[0] != agent}

    async def expire(self) -> list[RequestRow]:
        """End the requests on which nobody has decided in time, and tell the agents; returns them."""
        now, ended = self._clock(), []
        async with self._book.changing:
            for number in [number for number, (_, asked_at) in self._open.items() if now >= asked_at + _LONGEST]:
                try:
                    ended += await self._expire(number, now)
                except HiveError as error:
                    if error.code in TEMPORARY_ERRORS:
                        log.warning("the end of a request for the network is not stored", code=error.code)
                        break
                self._open.pop(number, None)
        return ended

    async def _expire(self, number: int, now: int) -> list[RequestRow]:
        row = await self._database.read(lambda db: store.find_request(db, number))
        if row is None or row.state != "open":
            return []
        expired = row._replace(state="expired", decided_by=TIME, decided_at=now)
        await self._broker.announce([(row.agent, texts.expired(row))], lambda db: _end(db, expired))
        return [expired]

    async def ask(self, entry: str, request: AskForHost, by: Principal) -> NetworkRequest:
        """Store a request for a host in its normal spelling, and tell who decides on it.

        A request for the same host that is open already is returned as it is. Raises `too_many_requests`.
        """
        agent = by.name
        async with self._book.changing:
            known, number = await self._database.read(
                lambda db: (store.open_requests_of(db, agent), store.next_request(db))
            )
            same = next((row for row in known if row.entry == entry), None)
            if same is not None:
                return self.shown(same)
            if len(known) >= MOST_OPEN:
                raise texts.too_many_requests(agent, MOST_OPEN)
            new = RequestRow(number, agent, entry, request.why, request.hours, "open", self._clock())
            decider = self._decider_of(agent)
            to = MANAGER if decider == "manager" else OPERATOR
            await self._broker.announce([(to, texts.review(new, decider))], lambda db: _ask(db, new, by.actor), agent)
            self._open[number] = (agent, new.asked_at)
        return self.shown(new)

    async def approve(
        self, number: int, request: ApproveHost, by: Principal, check: Callable[[RequestRow], None]
    ) -> tuple[RequestRow, RuleChange]:
        """Approve a request that passes `check`, which makes a rule. Raises `unknown_request`, `request_decided`,
        `not_decider`, `too_many_rules`, and what `check` raises.
        """
        async with self._book.changing:
            row = await self._decidable(number, by)
            check(row)
            own = [rule for rule in self._book.made_for(row.agent) if rule.effect == "allow"]
            others = [rule for rule in own if rule.entry != row.entry]
            if not has_room(others, row.entry):
                raise texts.too_many_rules(row.agent)
            now = self._clock()
            ends_at = now + int((request.hours or row.hours) * _HOUR)
            rule = RuleRow(0, row.agent, "allow", row.entry, number, by.label, row.why, now, ends_at)
            approved = row._replace(state="approved", note=request.note, decided_by=by.label, decided_at=now)

            def within(db: sqlite3.Connection) -> RuleChange:
                self._decide(db, approved, by)
                return replace_rule(db, rule)

            notification = (row.agent, texts.decided(approved, rule))
            change = await self._broker.announce([notification], within)
            self._book.apply(change)
            self._open.pop(number, None)
        return approved, change

    async def deny(self, number: int, request: DenyHost, by: Principal) -> RequestRow:
        """Deny a request. Raises `unknown_request`, `request_decided`, `not_decider`."""
        async with self._book.changing:
            row = await self._decidable(number, by)
            now = self._clock()
            denied = row._replace(state="denied", note=request.note, decided_by=by.label, decided_at=now)
            notification = (row.agent, texts.decided(denied, None))
            await self._broker.announce([notification], lambda db: self._decide(db, denied, by))
            self._open.pop(number, None)
        return denied

    async def listing(self, query: NetworkRequestsQuery, sees: Sight = EVERYTHING) -> NetworkRequestList:
        """Return requests, the oldest first."""
        rows, total = await self._database.read(lambda db: store.select_requests(db, query, sees))
        return NetworkRequestList(requests=[self.shown(row) for row in rows], total=total)

    def shown(self, row: RequestRow) -> NetworkRequest:
        """Return a request as callers see it."""
        return NetworkRequest(
            id=row.id,
            agent=row.agent,
            host=row.entry,
            why=row.why,
            hours=row.hours,
            state=row.state,
            asked_at=to_datetime(row.asked_at),
            waits_for=self._decider_of(row.agent) if row.state == "open" else None,
            decided_at=None if row.decided_at is None else to_datetime(row.decided_at),
            decided_by=row.decided_by,
            note=row.note,
        )

    async def _decidable(self, number: int, by: Principal) -> RequestRow:
        row = await self._database.read(lambda db: store.find_request(db, number))
        if row is None:
            raise texts.unknown_request(number)
        if by.role != "operator" and not (by.role == "manager" and self._decider_of(row.agent) == "manager"):
            raise texts.not_decider(row)
        if row.state != "open":
            raise texts.request_ended(row)
        return row

    def _decide(self, db: sqlite3.Connection, decided: RequestRow, by: Principal) -> None:
        _end(db, decided)
        detail = {"request": decided.id, "host": decided.entry, "decision": decided.state}
        audit.append(db, actor=by.actor, action="network_decide", subject=decided.agent, detail=detail)


def _end(db: sqlite3.Connection, ended: RequestRow) -> None:
    """Store that a request is not open any more. Raises `request_decided` if it is none already."""
    now, label = ended.decided_at or 0, ended.decided_by or ""
    if store.decide_request(db, ended.id, ended.state, now, label, ended.note) is None:
        raise conflict("request_decided", f"request {ended.id} is decided or gone", "hive-c0re net shows those open")


def _ask(db: sqlite3.Connection, new: RequestRow, actor: str) -> None:
    check_exists(db, new.agent)
    store.insert_request(db, new)
    detail = {"request": new.id, "host": new.entry, "hours": new.hours}
    audit.append(db, actor=actor, action="network_request", subject=new.agent, detail=detail)


def not_needed(agent: str, entry: str, *, sealed: bool) -> HiveError:
    """Return the error for a request for a host that the agent reaches already."""
    if not sealed:
        what = f"{agent} has the host's network, for which there are no rules"
    else:
        what = f"{agent} reaches {entry} already"
    return conflict("host_allowed", what, "use the proxy: HTTP_PROXY and HTTPS_PROXY name it" if sealed else "")
