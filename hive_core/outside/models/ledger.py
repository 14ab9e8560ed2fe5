"""The ledger: money is reserved before a call of a model, durably, and settled after it.

Reservations and settlements come one after another through the database's writer, so calls at the same time cannot
overdraw a budget; each costs a share of a commit. A relay that ends leaves reservations behind: they are counted as
spent when the next relay says hello, and corrected if their settlement comes nevertheless.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Literal, NamedTuple

from hive_core.infra.database.database import Database, steady_milliseconds
from hive_core.outside.models import store
from hive_core.outside.models.budgets import (
    DAY_MILLISECONDS,
    CallNeed,
    Limit,
    day_end,
    day_of,
    describe,
    find_refusal,
    find_warnings,
    shown_amount,
)
from hive_core.outside.models.prices import UNSEEN_TOKENS, PriceTable, shipped_prices, to_dollars, to_nano, tokens_of
from hive_core.outside.models.settlement import OpenCall, find_price, settle
from hive_core.outside.models.vendor_refusals import VendorRefusals, stopped_text
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol.models.budgets import ALL, BudgetAnswer, BudgetRefusal, Measure, Period
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.link import RelayReserve, RelaySettle
from hive_core.protocol.models.providers import ProviderSettings
from hive_core.protocol.models.usage import CallList, CallsQuery, UsageAnswer, UsageQuery

_DELETED_AT_ONCE = 500
_FIRST_DAY = date(1970, 1, 1)


class LedgerNotice(NamedTuple):
    """Something that the operator has to be told. `whose` is an agent, or "all"; amounts of money are in dollars.

    `warning` is a limit of which most is spent, `exhausted` one that has refused a call, `wrong_usage` are figures of
    the provider `whose` that cannot be right, `vendor_refuses` are calls that the vendor refuses again and again: the
    agent's calls to `provider` are not passed on any more. A limit is that of `day`, and `bit` stands for it; `added`
    is the money that had been added to it, in nanodollars.
    """

    kind: Literal["warning", "exhausted", "wrong_usage", "vendor_refuses"]
    whose: str
    measure: Measure | None = None
    period: Period | None = None
    spent: float = 0.0
    limit: float = 0.0
    day: int = 0
    bit: int = 0
    added: int = 0
    provider: str = ""

    @property
    def key(self) -> tuple[str, str, str | None, int, int]:
        """The same for each notice about one limit."""
        return self.kind, self.whose, self.period, self.day if self.period == "day" else 0, self.bit


@dataclass(frozen=True)
class Reservation:
    """The answer to a request for a call: granted if there is no reason against it, with what has to be told.

    `stopped` is the text for an agent whose calls are not passed on.
    """

    refusal: BudgetRefusal | None = None
    stopped: str = ""
    notices: tuple[LedgerNotice, ...] = ()

    @property
    def granted(self) -> bool:
        """True if the call may be made."""
        return self.refusal is None and not self.stopped


class Ledger:
    """The ledger in the daemon's database, for the hive's providers."""

    def __init__(
        self,
        database: Database,
        providers: Mapping[str, ProviderSettings],
        limits_of: Callable[[str], SpendingLimits],
        hive_limits: SpendingLimits,
        prices: PriceTable | None = None,
        clock: Callable[[], int] = steady_milliseconds,
    ) -> None:
        """`limits_of` returns the limits that hold for an agent; `clock` the time in milliseconds."""
        self._database = database
        self._providers = providers
        self._limits_of = limits_of
        self._hive_limits = hive_limits
        self._prices = prices or shipped_prices()
        self._clock = clock
        self._refusals = VendorRefusals()
        self._wrong: set[tuple[str, int]] = set()
        self._untold: set[tuple[str, str, str | None, int, int]] = set()
        """Notices that were handed out, and are not stored as told yet."""
        self._relay = ""
        self.on_resumed: Callable[[Sequence[str]], None] = lambda _: None
        """Called with agents whose calls were not passed on, and are now."""

    async def open_relay(self, instance: str) -> int:
        """Count the calls that other relays have left under way as spent; return how many there were.

        A new relay has read the keys anew, so agents that the vendor had refused go on.
        """
        if instance != self._relay:
            self._relay = instance
            self.on_resumed(self._refusals.let_go_on())

        def operation(db: sqlite3.Connection) -> int:
            left = store.open_calls(db, instance)
            for call in left:
                self._end(db, RelaySettle(id=0, call=call, outcome="lost"))
            return len(left)

        return await self._database.write(operation)

    async def reserve(self, request: RelayReserve, instance: str, turn: str = "") -> Reservation:
        """Reserve the money of a call, durably, if the budgets of its agent and of the hive allow it."""
        if self._refusals.is_stopped(request.agent, request.provider):
            return Reservation(stopped=stopped_text(request.agent, request.provider))
        call = self._open_call(request)
        need = CallNeed(call.reserve, call.reserve_tokens)
        at = self._clock()
        budgets = self._budgets(request.agent)

        def operation(db: sqlite3.Connection) -> Reservation:
            if store.find_call(db, request.call) is not None:
                return Reservation()  # The same request again: its answer was lost.
            for (shown, whose), limits in budgets.items():
                spent = store.read_spent(db, whose, day_of(at))
                refused = find_refusal(shown, limits, spent, need, day_of(at))
                if refused is not None:
                    refusal, limit = refused
                    return Reservation(refusal, notices=_untold(db, "exhausted", whose, shown, day_of(at), [limit]))
            store.insert_call(db, request, call, instance=instance, turn=turn, at=at, day=day_of(at))
            return Reservation()

        found = await self._database.write(operation)
        return replace(found, notices=self._fresh(found.notices))

    async def settle(self, end: RelaySettle) -> tuple[LedgerNotice, ...]:
        """Store the end of a call, durably. One that is unknown, or settled already, changes nothing."""
        agent, provider, notices = await self._database.write_urgently(lambda db: self._end(db, end))
        found = list(self._fresh(notices))
        wrong = (provider, day_of(self._clock()))
        if any(notice.kind == "wrong_usage" for notice in found):
            if wrong in self._wrong:
                found = [notice for notice in found if notice.kind != "wrong_usage"]
            self._wrong.add(wrong)
        if agent and self._refusals.count(agent, provider, end.outcome, end.status):
            found.append(LedgerNotice("vendor_refuses", agent, provider=provider))
        return tuple(found)

    def set_told(self, db: sqlite3.Connection, notice: LedgerNotice) -> None:
        """Store in the transaction of the message that the operator is told of a limit, unless it was raised since."""
        if notice.period is not None:
            column: Literal["warned", "told"] = "warned" if notice.kind == "warning" else "told"
            spending = store.read_spent(db, _table_name(notice.whose), notice.day)[notice.period]
            if spending.added != notice.added:
                return
            known = getattr(spending, column)
            bits: dict[Period, int] = {notice.period: known | notice.bit}
            store.set_told(db, _table_name(notice.whose), notice.day, column, bits)

    def end_telling(self, notice: LedgerNotice) -> None:
        """Hand a notice out again when there is a reason, unless it is stored as told."""
        self._untold.discard(notice.key)

    def is_stopped(self, agent: str) -> bool:
        """Return True if an agent's calls are not passed on, because the vendor has refused many in a row."""
        return self._refusals.is_stopped(agent)

    def let_go_on(self, agent: str) -> bool:
        """Pass an agent's calls on again; return True if they were not."""
        return bool(self._refusals.let_go_on(agent))

    async def add(
        self, whose: str, money: float, within: Callable[[sqlite3.Connection], None] = lambda _: None
    ) -> None:
        """Raise limits of money by dollars, for today and in all: those of an agent, or of the hive (`all`).

        `within` is carried out in the same transaction.
        """
        day = day_of(self._clock())

        def operation(db: sqlite3.Connection) -> None:
            store.add_money(db, _table_name(whose), day, to_nano(money))
            within(db)

        await self._database.write(operation)
        self._untold = {key for key in self._untold if key[1] != whose}

    async def budget(self, agent: str) -> BudgetAnswer:
        """Return the limits that hold for an agent, with what is spent of them."""
        return await self._answer(agent, self._budgets(agent))

    async def all_budgets(self, agents: Sequence[str]) -> BudgetAnswer:
        """Return the limits of the hive, then those of agents, with what is spent of them."""
        limits = {(ALL, store.EVERYBODY): self._hive_limits}
        return await self._answer(ALL, limits | {(name, name): self._limits_of(name) for name in agents})

    async def _answer(self, whose: str, budgets: Mapping[tuple[str, str], SpendingLimits]) -> BudgetAnswer:
        day = day_of(self._clock())
        end = datetime.fromtimestamp(day_end(day) / 1_000, UTC)

        def operation(db: sqlite3.Connection) -> BudgetAnswer:
            spent = {name: store.read_spent(db, name, day) for _, name in budgets}
            own = spent[_table_name(whose)]
            return BudgetAnswer(
                agent=whose,
                limits=[
                    state for (shown, name), each in budgets.items() for state in describe(shown, each, spent[name])
                ],
                day_ends_at=end,
                spent_today=to_dollars(own["day"].money),
                spent_total=to_dollars(own["total"].money),
                stopped=[shown for shown, _ in budgets if self._refusals.is_stopped(shown)],
            )

        return await self._database.read(operation)

    async def usage(self, query: UsageQuery, sees: Sight = EVERYTHING) -> UsageAnswer:
        """Return sums of the calls that have ended."""
        since = 0 if query.since is None else max(0, (query.since - _FIRST_DAY).days)

        found = await self._database.scan(
            lambda db: store.select_sums(db, query.by, query.agent, since, query.limit, sees)
        )
        return UsageAnswer(
            by=query.by, prices_of=self._prices.day, sums=found.sums, total=found.total, groups=found.groups
        )

    async def has_calls(self, agent: str) -> bool:
        """Return True if the ledger has a call of an agent, which may be gone."""
        return await self._database.read(lambda db: store.has_spent(db, agent))

    async def calls(self, agent: str, query: CallsQuery) -> CallList:
        """Return calls of an agent, the newest first."""
        found = await self._database.scan(lambda db: store.select_calls(db, agent, query.limit, query.before))
        return CallList(calls=found, prices_of=self._prices.day)

    async def costs_today(self) -> dict[str, float]:
        """Return what each agent has spent today, in dollars."""
        day = day_of(self._clock())
        costs = await self._database.read(lambda db: store.select_costs(db, day))
        return {agent: to_dollars(cost) for agent, cost in costs.items()}

    async def delete_old(self, days: float) -> int:
        """Delete calls that are older than `days`; return how many. Their sums stay."""
        before, deleted = self._clock() - int(days * DAY_MILLISECONDS), 0
        while found := await self._database.write(lambda db: store.delete_calls(db, before, _DELETED_AT_ONCE)):
            deleted += found
        return deleted

    def _open_call(self, request: RelayReserve) -> OpenCall:
        price = find_price(self._prices, self._providers.get(request.provider), request.model).price
        tokens = tokens_of(request.bytes) + (UNSEEN_TOKENS if request.unbounded else 0)
        return OpenCall(
            request.provider,
            request.model,
            request.bytes,
            request.max_tokens,
            request.unbounded,
            request.fast,
            price.most(tokens, request.max_tokens, fast=request.fast),
            tokens + request.max_tokens,
        )

    def _budgets(self, agent: str) -> dict[tuple[str, str], SpendingLimits]:
        """Return the budgets that hold for an agent by their names: as they are shown, and in the table."""
        return {(agent, agent): self._limits_of(agent), (ALL, store.EVERYBODY): self._hive_limits}

    def _fresh(self, notices: Sequence[LedgerNotice]) -> tuple[LedgerNotice, ...]:
        """Return the notices that were not handed out yet."""
        fresh = tuple(notice for notice in notices if notice.period is None or notice.key not in self._untold)
        self._untold.update(notice.key for notice in fresh if notice.period is not None)
        return fresh

    def _end(self, db: sqlite3.Connection, end: RelaySettle) -> tuple[str, str, tuple[LedgerNotice, ...]]:
        stored = store.find_call(db, end.call)
        if stored is None or stored.outcome not in (None, "lost") or stored.outcome == end.outcome:
            return "", "", ()
        provider = self._providers.get(stored.call.provider)
        price = find_price(self._prices, provider, end.served, stored.call.requested)
        cost = settle(stored.call, end, price)
        store.end_call(db, stored, end, cost)
        notices: list[LedgerNotice] = []
        for (shown, whose), limits in self._budgets(stored.agent).items():
            spent = store.read_spent(db, whose, stored.day)
            notices += _untold(db, "warning", whose, shown, stored.day, find_warnings(limits, spent))
        if "implausible" in cost.flags:
            notices.append(LedgerNotice("wrong_usage", stored.call.provider))
        return stored.agent, stored.call.provider, tuple(notices)


def _untold(
    db: sqlite3.Connection, kind: Literal["warning", "exhausted"], whose: str, shown: str, day: int, limits: list[Limit]
) -> tuple[LedgerNotice, ...]:
    """Return the notices about those limits about which nobody was told yet."""
    spent = store.read_spent(db, whose, day)
    column = "warned" if kind == "warning" else "told"
    return tuple(
        LedgerNotice(
            kind,
            shown,
            limit.measure,
            limit.period,
            shown_amount(limit.measure, spent[limit.period].spent(limit.measure)),
            shown_amount(limit.measure, limit.limit),
            day,
            limit.bit,
            spent[limit.period].added,
        )
        for limit in limits
        if not getattr(spent[limit.period], column) & limit.bit
    )


def _table_name(whose: str) -> str:
    return store.EVERYBODY if whose == ALL else whose
