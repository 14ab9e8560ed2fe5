"""Limits of spending."""

from __future__ import annotations

import pytest

from hive_core.outside.models.budgets import CallNeed, Spending, Spent, find_refusal, find_warnings, within
from hive_core.outside.models.prices import NANO
from hive_core.protocol.models.budgets import Measure
from hive_core.protocol.models.limits import SpendingLimits

NOTHING = SpendingLimits()


def spent(day: Spending | None = None, total: Spending | None = None) -> Spent:
    return {"day": day or Spending(), "total": total or Spending()}


def test_limits_are_the_agents_within_the_ceilings() -> None:
    """An agent's own limit replaces the default, and neither exceeds a ceiling."""
    defaults = SpendingLimits(money_per_day=5, calls_per_day=10)
    ceilings = SpendingLimits(money_per_day=8, tokens_total=100)
    assert within(NOTHING, defaults, ceilings).money_per_day == 5
    assert within(SpendingLimits(money_per_day=7), defaults, ceilings).money_per_day == 7
    assert within(SpendingLimits(money_per_day=70), defaults, ceilings).money_per_day == 8
    assert within(SpendingLimits(calls_per_day=70), defaults, ceilings).calls_per_day == 70
    assert within(NOTHING, defaults, ceilings).tokens_total == 100
    assert within(NOTHING, NOTHING, NOTHING) == NOTHING


@pytest.mark.parametrize("period", ["day", "total"])
@pytest.mark.parametrize(
    ("measure", "used", "open_", "need"),
    [
        ("money", Spending(money=NANO), Spending(money=NANO // 2, open_money=NANO // 2), CallNeed(NANO, 0)),
        ("tokens", Spending(tokens=100), Spending(tokens=60, open_tokens=40), CallNeed(0, 100)),
        ("calls", Spending(calls=1), Spending(calls=1), CallNeed(0, 0)),
    ],
)
def test_each_limit_refuses(period: str, measure: Measure, used: Spending, open_: Spending, need: CallNeed) -> None:
    """A call fits to the last unit; with one more, spent or reserved, it does not."""
    name = f"{measure}_{'per_day' if period == 'day' else 'total'}"
    exact = {"money": 2.0, "tokens": 200, "calls": 2}[measure]
    less = {"money": 1.999999999, "tokens": 199, "calls": 1}[measure]
    for state in (used, open_):
        both = spent(day=state) if period == "day" else spent(total=state)
        assert find_refusal("ada", SpendingLimits.model_validate({name: exact}), both, need, 0) is None
        refused = find_refusal("ada", SpendingLimits.model_validate({name: less}), both, need, 0)
        assert refused is not None
        assert (refused[0].measure, refused[0].period, refused[0].limit) == (measure, period, less)
        assert (refused[0].until is None) == (period == "total")


def test_added_money_raises_the_limit() -> None:
    """What was added counts in the period for which it was."""
    limits = SpendingLimits(money_per_day=1)
    need = CallNeed(2 * NANO, 0)
    assert find_refusal("ada", limits, spent(), need, 0) is not None
    assert find_refusal("ada", limits, spent(day=Spending(added=NANO)), need, 0) is None
    assert find_refusal("ada", limits, spent(total=Spending(added=NANO)), need, 0) is not None


def test_a_refusal_has_the_numbers() -> None:
    """A refusal names the limit, what is spent and reserved, the reserve, and the end of the day."""
    state = spent(day=Spending(money=NANO, open_money=NANO // 4))
    refused = find_refusal("ada", SpendingLimits(money_per_day=1.5), state, CallNeed(NANO, 7), 19_999)
    assert refused is not None
    refusal = refused[0]
    assert (refusal.whose, refusal.limit, refusal.spent, refusal.reserved, refusal.reserve) == ("ada", 1.5, 1, 0.25, 1)
    assert refusal.until == 20_000 * 86_400


def test_warnings_are_for_what_is_spent() -> None:
    """From 80 % of a limit on there is a warning; reserves do not count, as they are mostly given back."""
    limits = SpendingLimits(money_per_day=1, calls_total=10)
    assert find_warnings(limits, spent(day=Spending(money=NANO * 79 // 100, open_money=NANO))) == []
    (found,) = find_warnings(limits, spent(day=Spending(money=NANO * 80 // 100)))
    assert (found.measure, found.period) == ("money", "day")
    (found,) = find_warnings(limits, spent(total=Spending(calls=8)))
    assert (found.measure, found.period) == ("calls", "total")
