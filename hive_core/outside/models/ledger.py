"""The ledger: money is reserved before a call of a model, durably, and settled after it.

Reservations and settlements come one after another through the database's writer, so calls at the same time cannot
overdraw a budget; each costs a share of a commit. A relay that ends leaves reservations behind: they are counted as
spent when the next relay says hello, and corrected if their settlement comes nevertheless.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from hive_core.infra.database.database import Database, steady_milliseconds
from hive_core.outside.models import store
from hive_core.outside.models.budgets import (
    DAY_MILLISECONDS,
    HIVE,
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
from hive_core.protocol.models.budgets import BudgetAnswer, BudgetRefusal, Measure, Period, SpendingLimits
from hive_core.protocol.models.link import RelayReserve, RelaySettle
from hive_core.protocol.models.providers import ProviderSettings
from hive_core.protocol.models.usage import CallList, TokenCounts, UsageAnswer, UsageQuery, UsageSum

MOST_REFUSALS = 5
"""Refusals of an agent's calls by a vendor (401, 403) in a row, after which somebody is told."""
_REFUSED = (401, 403)
_DELETED_AT_ONCE = 500


class LedgerNotice(NamedTuple):
    """Something that the operator has to be told. `whose` is an agent, or "hive"; amounts of money are in dollars.

    `warning` is a limit of which most is spent, `exhausted` one that has refused a call, `wrong_usage` are figures of
    the provider `whose` that cannot be right, `vendor_refuses` are calls that the vendor refuses again and again.
    """

    kind: Literal["warning", "exhausted", "wrong_usage", "vendor_refuses"]
    whose: str
    measure: Measure | None = None
    period: Period | None = None
    spent: float = 0.0
    limit: float = 0.0


@dataclass(frozen=True)
class Reservation:
    """The answer to a request for a call: granted if there is no refusal, with what has to be told."""

    refusal: BudgetRefusal | None = None
    notices: tuple[LedgerNotice, ...] = ()


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
        self._refusals: Counter[str] = Counter()
        self._wrong: set[tuple[str, int]] = set()

    async def open_relay(self, instance: str) -> int:
        """Count the calls that other relays have left under way as spent; return how many there were."""

        def operation(db: sqlite3.Connection) -> int:
            left = store.open_calls(db, instance)
            for call in left:
                self._end(db, RelaySettle(id=0, call=call, outcome="lost"))
            return len(left)

        return await self._database.write(operation)

    async def reserve(self, request: RelayReserve, instance: str, turn: str = "") -> Reservation:
        """Reserve the money of a call, durably, if the budgets of its agent and of the hive allow it."""
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
                    return Reservation(refusal, _once(db, "told", whose, shown, day_of(at), [limit]))
            store.insert_call(db, request, call, instance=instance, turn=turn, at=at, day=day_of(at))
            return Reservation()

        return await self._database.write(operation)

    async def settle(self, end: RelaySettle) -> tuple[LedgerNotice, ...]:
        """Store the end of a call, durably. One that is unknown, or settled already, changes nothing."""
        agent, provider, notices = await self._database.write_urgently(lambda db: self._end(db, end))
        found = list(notices)
        wrong = (provider, day_of(self._clock()))
        if any(notice.kind == "wrong_usage" for notice in found):
            if wrong in self._wrong:
                found = [notice for notice in found if notice.kind != "wrong_usage"]
            self._wrong.add(wrong)
        if end.status in _REFUSED:
            self._refusals[agent] += 1
            if self._refusals[agent] == MOST_REFUSALS:
                found.append(LedgerNotice("vendor_refuses", agent))
        elif end.outcome == "done":
            del self._refusals[agent]
        return tuple(found)

    async def add(self, agent: str, money: float) -> None:
        """Raise an agent's limits of money by dollars, for today and in all."""
        day = day_of(self._clock())
        await self._database.write(lambda db: store.add_money(db, agent, day, to_nano(money)))

    async def budget(self, agent: str) -> BudgetAnswer:
        """Return the limits that hold for an agent, with what is spent of them."""
        day = day_of(self._clock())
        budgets = self._budgets(agent)

        def operation(db: sqlite3.Connection) -> BudgetAnswer:
            limits = [
                state
                for (shown, whose), each in budgets.items()
                for state in describe(shown, each, store.read_spent(db, whose, day))
            ]
            end = datetime.fromtimestamp(day_end(day) / 1_000, UTC)
            return BudgetAnswer(agent=agent, limits=limits, day_ends_at=end)

        return await self._database.read(operation)

    async def usage(self, query: UsageQuery) -> UsageAnswer:
        """Return sums of the calls that have ended."""
        today = day_of(self._clock())
        since = 0 if query.days is None else today - query.days + 1
        sums = await self._database.scan(lambda db: store.select_sums(db, query.by, query.agent, since))
        if query.by == "day":
            sums = [each.model_copy(update={"key": _date(int(each.key))}) for each in sums]
        return UsageAnswer(by=query.by, prices_of=self._prices.day, sums=sums, total=_add_up(sums))

    async def calls(self, agent: str, most: int) -> CallList:
        """Return the newest calls of an agent, the newest first."""
        return CallList(calls=await self._database.scan(lambda db: store.select_calls(db, agent, most)))

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
        return {(agent, agent): self._limits_of(agent), (HIVE, store.EVERYBODY): self._hive_limits}

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
            notices += _once(db, "warned", whose, shown, stored.day, find_warnings(limits, spent))
        if "implausible" in cost.flags:
            notices.append(LedgerNotice("wrong_usage", stored.call.provider))
        return stored.agent, stored.call.provider, tuple(notices)


def _once(
    db: sqlite3.Connection, column: Literal["warned", "told"], whose: str, shown: str, day: int, limits: list[Limit]
) -> tuple[LedgerNotice, ...]:
    """Return the notices about those limits about which nobody was told yet, and store that they are told."""
    spent = store.read_spent(db, whose, day)
    known: dict[Period, int] = {period: getattr(each, column) for period, each in spent.items()}
    new = [limit for limit in limits if not known[limit.period] & limit.bit]
    if new:
        masks: dict[Period, int] = {}
        for limit in new:
            masks[limit.period] = masks.get(limit.period, known[limit.period]) | limit.bit
        store.set_told(db, whose, day, column, masks)
    kind: Literal["warning", "exhausted"] = "warning" if column == "warned" else "exhausted"
    return tuple(
        LedgerNotice(
            kind,
            shown,
            limit.measure,
            limit.period,
            shown_amount(limit.measure, spent[limit.period].spent(limit.measure)),
            shown_amount(limit.measure, limit.limit),
        )
        for limit in new
    )


def _add_up(sums: list[UsageSum]) -> UsageSum:
    tokens = {name: sum(getattr(each.tokens, name) for each in sums) for name in TokenCounts.model_fields}
    return UsageSum(
        key="",
        calls=sum(each.calls for each in sums),
        tokens=TokenCounts(**tokens),
        cost=round(sum(each.cost for each in sums), 9),
        uncertain=sum(each.uncertain for each in sums),
    )


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_MILLISECONDS / 1_000, UTC).date().isoformat()
