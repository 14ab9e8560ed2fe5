"""The ledger's SQL: functions on a SQLite connection, run by the writer or a reader.

Money is in nanodollars, times are in milliseconds, days are counted from 1970 in UTC.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Literal, NamedTuple

from hive_core.infra.database.database import to_datetime
from hive_core.outside.models.budgets import DAY_MILLISECONDS, Spending, Spent
from hive_core.outside.models.prices import to_dollars
from hive_core.outside.models.settlement import UNCERTAIN, CallCost, OpenCall
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol.models.budgets import Period
from hive_core.protocol.models.link import RelayReserve, RelaySettle
from hive_core.protocol.models.usage import CallOutcome, ModelCall, TokenCounts, UsageSum

Grouping = Literal["day", "model", "agent"]
_LARGEST = 2**63 - 1
EVERYBODY = "*"
"""Name under which the table has the spending of the whole hive."""
_EVER = -1
"""The day of the spending in all."""
_TOKENS = tuple(TokenCounts.model_fields)
_SUMS = (*_TOKENS, "cost", "uncertain")


class StoredCall(NamedTuple):
    """A call that was reserved, with its outcome if it has ended, and what it is counted with."""

    agent: str
    day: int
    outcome: CallOutcome | None
    call: OpenCall
    cost: int
    counted: int


def read_spent(db: sqlite3.Connection, whose: str, day: int) -> Spent:
    """Return what an agent, or `EVERYBODY`, has spent on a day and in all."""
    found: dict[Period, Spending] = {"day": Spending(), "total": Spending()}
    query = """SELECT day, money, tokens, calls, open_money, open_tokens, added, warned, told FROM model_spending
        WHERE whose = ? AND day IN (?, ?)"""
    for row in db.execute(query, (whose, day, _EVER)):
        found["total" if row[0] == _EVER else "day"] = Spending(*row[1:])
    return found


def insert_call(
    db: sqlite3.Connection, request: RelayReserve, need: OpenCall, *, instance: str, turn: str, at: int, day: int
) -> None:
    """Insert a call that is under way, and count its reserve."""
    db.execute(
        """INSERT INTO model_calls (call, instance, at, day, agent, turn, provider, requested, served, bytes,
            max_tokens, unbounded, fast, reserve, reserve_tokens)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?, ?, ?, ?, ?)""",
        (
            *(request.call, instance, at, day, request.agent, turn, need.provider, need.requested),
            *(need.bytes, need.max_tokens, need.unbounded, need.fast, need.reserve, need.reserve_tokens),
        ),
    )
    change = {"calls": 1, "open_money": need.reserve, "open_tokens": need.reserve_tokens}
    _spend(db, request.agent, day, change)


def find_call(db: sqlite3.Connection, call: str) -> StoredCall | None:
    """Return a call of the ledger."""
    query = """SELECT agent, day, outcome, provider, requested, bytes, max_tokens, unbounded, fast, reserve,
        reserve_tokens, cost, counted_tokens FROM model_calls WHERE call = ?"""
    row = db.execute(query, (call,)).fetchone()
    if row is None:
        return None
    agent, day, outcome, provider, requested, size, most, unbounded, fast, reserve, tokens, cost, counted = row
    open_call = OpenCall(provider, requested, size, most, bool(unbounded), bool(fast), reserve, tokens)
    return StoredCall(agent, day, outcome, open_call, cost, counted)


def end_call(db: sqlite3.Connection, stored: StoredCall, end: RelaySettle, cost: CallCost) -> None:
    """Store the end of a call, and count its cost in place of its reserve, or of what it was counted with before."""
    counts = [getattr(cost.tokens, name) for name in _TOKENS]
    db.execute(
        f"""UPDATE model_calls SET outcome = ?, status = ?, served = ?, {", ".join(f"{name} = ?" for name in _TOKENS)},
            counted_tokens = ?, cost = ?, flags = ?, first_byte = ?, duration = ? WHERE call = ?""",  # noqa: S608
        (
            *(end.outcome, end.status, end.served, *counts, cost.counted, cost.cost, " ".join(cost.flags)),
            *(end.first_byte, end.duration, end.call),
        ),
    )
    change = {
        "money": cost.cost - stored.cost,
        "tokens": cost.counted - stored.counted,
        "calls": -1 if end.outcome == "not_sent" else 0,
    }
    if stored.outcome is None:
        change |= {"open_money": -stored.call.reserve, "open_tokens": -stored.call.reserve_tokens}
    _spend(db, stored.agent, stored.day, change)
    if stored.outcome is not None:  # It was lost, and is known now.
        _add_sum(db, stored, stored.call.requested, [0] * len(_TOKENS), -stored.cost, -1, -1)
    if end.outcome != "not_sent":
        uncertain = int(not UNCERTAIN.isdisjoint(cost.flags))
        # An agent can ask for any number of models that there are not, for nothing: they are one row.
        model = "" if cost.cost == 0 and not end.served else end.served or stored.call.requested
        _add_sum(db, stored, model, counts, cost.cost, uncertain, 1)


def open_calls(db: sqlite3.Connection, instance: str) -> list[str]:
    """Return the calls under way of all relays but `instance`."""
    query = "SELECT call FROM model_calls WHERE outcome IS NULL AND instance != ?"
    return [row[0] for row in db.execute(query, (instance,))]


def add_money(db: sqlite3.Connection, whose: str, day: int, money: int) -> None:
    """Raise the limits of money of a day and in all; warnings are given anew for what is left."""
    for period in (day, _EVER):
        db.execute(
            """INSERT INTO model_spending (whose, day, added) VALUES (?, ?, ?)
            ON CONFLICT (whose, day) DO UPDATE SET added = added + excluded.added, warned = 0, told = 0""",
            (whose, period, money),
        )


def set_told(
    db: sqlite3.Connection, whose: str, day: int, column: Literal["warned", "told"], bits: dict[Period, int]
) -> None:
    """Store the limits about which somebody has been told."""
    for period, mask in bits.items():
        db.execute(
            f"""INSERT INTO model_spending (whose, day, {column}) VALUES (?, ?, ?)
            ON CONFLICT (whose, day) DO UPDATE SET {column} = excluded.{column}""",  # noqa: S608
            (whose, day if period == "day" else _EVER, mask),
        )


class FoundSums(NamedTuple):
    """Some of the sums of calls, how many there are, and the sum of all of them."""

    sums: list[UsageSum]
    groups: int
    total: UsageSum


def select_sums(
    db: sqlite3.Connection, by: Grouping, agent: str | None, since: int, most: int, sees: Sight = EVERYTHING
) -> FoundSums:
    """Return sums of calls from a day on: those of the newest days in their order, or the dearest ones first."""
    names = ("calls", *_SUMS)
    values: tuple[object, ...]
    where, values = ("day >= ?", (since,)) if agent is None else ("agent = ? AND day >= ?", (agent, since))
    if not sees.whole:
        where, values = f"{where} AND {sees.condition('agent', '?')}", (*values, sees.names)
    # With `+` the order of an index is not used for groups, which would read all days of all agents.
    query = f"""WITH found AS (
            SELECT {by} AS key, {", ".join(f"sum({name}) AS {name}" for name in names)} FROM model_sums WHERE {where}
            GROUP BY +{by} HAVING sum(calls) != 0
        )
        SELECT key, {", ".join(names)}, count(*) OVER (), {", ".join(f"sum({name}) OVER ()" for name in names)}
        FROM found ORDER BY {"key DESC" if by == "day" else "cost DESC, key"} LIMIT ?"""  # noqa: S608 - own names only
    rows = db.execute(query, (*values, most)).fetchall()
    if not rows:
        return FoundSums([], 0, _usage_sum("", (0,) * len(names)))
    end = 1 + len(names)
    sums = [_usage_sum(_date(row[0]) if by == "day" else row[0], row[1:end]) for row in rows]
    return FoundSums(sums[::-1] if by == "day" else sums, rows[0][end], _usage_sum("", rows[0][end + 1 :]))


def has_spent(db: sqlite3.Connection, whose: str) -> bool:
    """Return True if there was a call of an agent, or money was added to its budget."""
    return db.execute("SELECT 1 FROM model_spending WHERE whose = ? LIMIT 1", (whose,)).fetchone() is not None


def select_costs(db: sqlite3.Connection, day: int) -> dict[str, int]:
    """Return what each agent has spent on a day."""
    return dict(db.execute("SELECT whose, money FROM model_spending WHERE day = ? AND whose != '*'", (day,)))


def select_calls(db: sqlite3.Connection, agent: str, most: int, before: int | None = None) -> list[ModelCall]:
    """Return the newest calls of an agent with ids below `before`, the newest first."""
    query = f"""SELECT id, call, at, agent, turn, provider, requested, served, outcome, status, {", ".join(_TOKENS)},
        cost, reserve, flags, first_byte, duration FROM model_calls WHERE agent = ? AND id < ?
        ORDER BY id DESC LIMIT ?"""  # noqa: S608
    return [_model_call(row) for row in db.execute(query, (agent, _LARGEST if before is None else before, most))]


def delete_calls(db: sqlite3.Connection, before: int, most: int) -> int:
    """Delete calls that ended and began before a time, at most `most`; return how many. Their sums stay."""
    query = """DELETE FROM model_calls WHERE id IN
        (SELECT id FROM model_calls WHERE outcome IS NOT NULL AND at < ? ORDER BY at LIMIT ?)"""
    return db.execute(query, (before, most)).rowcount


def _spend(db: sqlite3.Connection, agent: str, day: int, change: dict[str, int]) -> None:
    names = list(change)
    updates = ", ".join(f"{name} = {name} + excluded.{name}" for name in names)
    rows = [(whose, period, *change.values()) for whose in (agent, EVERYBODY) for period in (day, _EVER)]
    db.executemany(
        f"""INSERT INTO model_spending (whose, day, {", ".join(names)}) VALUES (?, ?{", ?" * len(names)})
        ON CONFLICT (whose, day) DO UPDATE SET {updates}""",  # noqa: S608 - names of columns of this module only
        rows,
    )


def _add_sum(
    db: sqlite3.Connection, stored: StoredCall, model: str, counts: Iterable[int], cost: int, uncertain: int, calls: int
) -> None:
    names = ("calls", *_SUMS)
    updates = ", ".join(f"{name} = {name} + excluded.{name}" for name in names)
    db.execute(
        f"""INSERT INTO model_sums (day, agent, provider, model, {", ".join(names)})
        VALUES (?, ?, ?, ?{", ?" * len(names)})
        ON CONFLICT (day, agent, provider, model) DO UPDATE SET {updates}""",  # noqa: S608
        (stored.day, stored.agent, stored.call.provider, model, calls, *counts, cost, uncertain),
    )


def _date(day: int) -> str:
    return to_datetime(day * DAY_MILLISECONDS).date().isoformat()


def _usage_sum(key: str, row: tuple[int, ...]) -> UsageSum:
    calls, *counts, cost, uncertain = row
    tokens = TokenCounts(**dict(zip(_TOKENS, counts, strict=True)))
    return UsageSum(key=key, calls=calls, tokens=tokens, cost=to_dollars(cost), uncertain=uncertain)


def _model_call(row: tuple[object, ...]) -> ModelCall:
    number, call, at, agent, turn, provider, requested, served, outcome, status, *rest = row
    counts, (cost, reserve, flags, first_byte, duration) = rest[: len(_TOKENS)], rest[len(_TOKENS) :]
    return ModelCall.model_validate(
        {
            "id": number,
            "call": call,
            "at": to_datetime(int(str(at))),
            "agent": agent,
            "turn": turn,
            "provider": provider,
            "requested": requested,
            "served": served,
            "outcome": outcome,
            "status": status,
            "tokens": dict(zip(_TOKENS, counts, strict=True)),
            "cost": to_dollars(int(str(cost))),
            "reserve": to_dollars(int(str(reserve))),
            "flags": str(flags).split(),
            "first_byte": first_byte,
            "duration": duration,
        }
    )
