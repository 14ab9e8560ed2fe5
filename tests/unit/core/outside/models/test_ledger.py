"""The ledger of calls of models."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest

from hive_core.outside.models.budgets import DAY_MILLISECONDS
from hive_core.outside.models.vendor_refusals import MOST_REFUSALS
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.link import RelaySettle
from hive_core.protocol.models.usage import CallsQuery, TokenCounts, UsageQuery
from tests.unit.core.outside.models.ledger_hive import RELAY, LedgerHive

TOKENS = TokenCounts(input=1_000, output=1_000)


async def test_a_granted_call_is_on_disk(hive: LedgerHive) -> None:
    """Whoever hears that a call is granted finds its reservation in the file, whatever dies then."""
    request = hive.request()
    assert (await hive.reserve(request)).refusal is None
    assert await hive.database.scan(lambda db: db.execute("SELECT call, outcome FROM model_calls").fetchall()) == [
        (request.call, None)
    ]
    assert await hive.money() == (0, 0.003)


async def test_a_settled_call_costs_what_the_vendor_says(hive: LedgerHive) -> None:
    """The reserve is given back, and the vendor's own figures count."""
    request = hive.request()
    await hive.reserve(request)
    await hive.settle(request, TokenCounts(input=100, output=50))
    assert await hive.money() == (0.0002, 0)
    (call,) = (await hive.ledger.calls("ada", CallsQuery(limit=5))).calls
    assert (call.cost, call.reserve, call.flags, call.outcome) == (0.0002, 0.003, [], "done")


async def test_calls_at_once_do_not_overdraw(hive: LedgerHive) -> None:
    """Of fifty agents that call at once, only so many are granted as the hive's budget has money for."""
    hive.hive_limits = SpendingLimits(money_per_day=0.030)
    hive.restart()
    requests = [hive.request(f"a{number}") for number in range(50)]
    answers = await asyncio.gather(*(hive.reserve(each) for each in requests))
    granted = [each for each, answer in zip(requests, answers, strict=True) if answer.refusal is None]
    assert len(granted) == 10
    await asyncio.gather(*(hive.settle(each, TOKENS) for each in granted))
    (state,) = (await hive.ledger.budget("a0")).limits
    assert (state.whose, state.spent, state.reserved) == ("all", 0.03, 0)
    refusal = (await hive.reserve(hive.request())).refusal
    assert refusal is not None
    assert (refusal.whose, refusal.reserve, refusal.spent) == ("all", 0.003, 0.03)


async def test_one_agent_does_not_use_the_budget_of_another(hive: LedgerHive) -> None:
    """The budget of ada is hers: bob's calls go on."""
    hive.limits["ada"] = SpendingLimits(calls_per_day=1)
    await hive.spend("ada")
    assert (await hive.reserve(hive.request("ada"))).refusal is not None
    await hive.spend("bob")


async def test_an_answer_that_breaks_off_is_counted_so_far(hive: LedgerHive) -> None:
    """What the vendor has said so far counts, with the text that came, and the call is flagged."""
    request = hive.request()
    await hive.reserve(request)
    await hive.settle(request, TokenCounts(input=500, output=1), "broken", complete=False, answered=600)
    (call,) = (await hive.ledger.calls("ada", CallsQuery(limit=1))).calls
    assert (call.tokens.output, call.cost, call.flags) == (200, 0.0009, ["estimated"])


@pytest.mark.parametrize("outcome", ["broken", "left", "done", "failed"])
async def test_an_answer_without_figures_costs_the_reserve(hive: LedgerHive, outcome: str) -> None:
    """Where the vendor has said nothing, what was reserved is spent, and the call is flagged."""
    request = hive.request()
    await hive.reserve(request)
    await hive.ledger.settle(RelaySettle.model_validate({"id": 1, "call": request.call, "outcome": outcome}))
    assert await hive.money() == (0.003, 0)
    (call,) = (await hive.ledger.calls("ada", CallsQuery(limit=1))).calls
    assert call.flags == ["reserve"]


@pytest.mark.parametrize(("outcome", "status", "calls"), [("not_sent", None, 0), ("failed", 429, 1)])
async def test_a_call_that_was_not_made_costs_nothing(
    hive: LedgerHive, outcome: str, status: int | None, calls: int
) -> None:
    """What never left, and what the vendor has refused, is free; only the second counts as a call."""
    hive.limits["ada"] = SpendingLimits(calls_per_day=9, money_per_day=9, tokens_per_day=90_000)
    request = hive.request()
    await hive.reserve(request)
    end = {"id": 1, "call": request.call, "outcome": outcome, "status": status}
    await hive.ledger.settle(RelaySettle.model_validate(end))
    states = {each.measure: each for each in (await hive.ledger.budget("ada")).limits}
    assert [(each.spent, each.reserved) for each in states.values()] == [(0, 0), (0, 0), (calls, 0)]


async def test_a_dead_relay_loses_no_money(hive: LedgerHive) -> None:
    """Calls that a relay has left under way are counted as spent when the next one comes, and flagged."""
    request = hive.request()
    await hive.reserve(request)
    hive.restart()
    assert await hive.ledger.open_relay(RELAY) == 0, "the same relay has only connected again"
    assert await hive.money() == (0, 0.003)
    assert await hive.ledger.open_relay("relay-2") == 1
    assert await hive.money() == (0.003, 0)
    (call,) = (await hive.ledger.calls("ada", CallsQuery(limit=1))).calls
    assert (call.outcome, call.flags) == ("lost", ["reserve"])
    assert await hive.ledger.open_relay("relay-3") == 0


async def test_a_late_settlement_corrects_a_lost_call(hive: LedgerHive) -> None:
    """If the end of a call that was counted as lost is told after all, it counts, in all sums."""
    request = hive.request()
    await hive.reserve(request)
    await hive.ledger.open_relay("relay-2")
    await hive.settle(request, TokenCounts(input=1_000, output=0), answered=0)
    assert await hive.money() == (0.001, 0)
    usage = await hive.ledger.usage(UsageQuery())
    assert (usage.total.calls, usage.total.cost, usage.total.uncertain) == (1, 0.001, 0)


async def test_a_settlement_counts_once(hive: LedgerHive) -> None:
    """The relay may send a settlement again; a second one, and one of an unknown call, change nothing."""
    request = hive.request()
    await hive.reserve(request)
    for _ in range(2):
        await hive.settle(request, TOKENS)
    await hive.settle(request, TokenCounts(input=7))
    await hive.settle(hive.request(), TOKENS)
    assert await hive.money() == (0.003, 0)
    assert (await hive.ledger.usage(UsageQuery())).total.calls == 1


async def test_a_request_that_is_repeated_reserves_once(hive: LedgerHive) -> None:
    """If the answer was lost with the link, the same request is answered again without a second reserve."""
    request = hive.request()
    for _ in range(2):
        assert (await hive.reserve(request)).refusal is None
    assert await hive.money() == (0, 0.003)


async def test_a_call_belongs_to_the_day_on_which_it_began(hive: LedgerHive) -> None:
    """A call over midnight is paid from the day of its reserve; the next day begins with nothing spent."""
    hive.limits["ada"] = SpendingLimits(money_per_day=0.003, money_total=0.01)
    request = hive.request()
    await hive.reserve(request)
    refusal = (await hive.reserve(hive.request())).refusal
    assert refusal is not None
    assert refusal.until is not None
    hive.now = refusal.until * 1_000 - 1
    assert (await hive.reserve(hive.request())).refusal is not None
    hive.now += 1
    await hive.settle(request, TOKENS)
    states = {each.period: each for each in (await hive.ledger.budget("ada")).limits}
    assert (states["day"].spent, states["total"].spent) == (0, 0.003)
    assert (await hive.reserve(hive.request())).refusal is None
    sums = (await hive.ledger.usage(UsageQuery())).sums
    assert [each.key for each in sums] == ["2024-10-04"]


async def test_most_of_a_budget_warns_once(hive: LedgerHive) -> None:
    """80 % of a limit are told once, and its end once; both again after money was added, or if it was not stored."""
    hive.limits["ada"] = SpendingLimits(money_per_day=0.0121)
    assert [await hive.spend() for _ in range(3)] == [(), (), ()]
    (warning,) = await hive.spend()
    assert (warning.kind, warning.whose, warning.measure, warning.spent) == ("warning", "ada", "money", 0.012)
    (exhausted,) = [notice for _ in range(2) for notice in (await hive.reserve(hive.request())).notices]
    assert exhausted.kind == "exhausted"
    hive.ledger.end_telling(exhausted)  # The message could not be stored.
    assert [notice.kind for notice in (await hive.reserve(hive.request())).notices] == ["exhausted"]
    await hive.database.write(lambda db: hive.ledger.set_told(db, exhausted))
    hive.restart()
    assert (await hive.reserve(hive.request())).notices == ()
    await hive.ledger.add("ada", 0.0015)
    assert [notice.kind for notice in (await hive.reserve(hive.request())).notices] == ["exhausted"]
    await hive.ledger.add("ada", 1)
    assert await hive.spend() == ()
    (state,) = (await hive.ledger.budget("ada")).limits
    assert (state.limit, state.added) == (1.0136, 1.0015)


async def test_money_that_comes_before_the_message(hive: LedgerHive) -> None:
    """The next end of a limit is told again if money was added while the message about it was on its way."""
    hive.limits["ada"] = SpendingLimits(money_per_day=0.003)
    await hive.spend()
    (exhausted,) = (await hive.reserve(hive.request())).notices
    await hive.ledger.add("ada", 0.003)
    await hive.database.write(lambda db: hive.ledger.set_told(db, exhausted))
    hive.ledger.end_telling(exhausted)
    await hive.spend()
    assert [notice.kind for notice in (await hive.reserve(hive.request())).notices] == ["exhausted"]


async def test_added_money_is_for_today(hive: LedgerHive) -> None:
    """What was added to a day is gone with it; in all it stays."""
    hive.limits["ada"] = SpendingLimits(money_per_day=1, money_total=10)
    await hive.ledger.add("ada", 5)
    hive.now += DAY_MILLISECONDS
    assert [each.limit for each in (await hive.ledger.budget("ada")).limits] == [1, 15]


async def test_an_unknown_model_is_counted_with_the_dearest_price(hive: LedgerHive) -> None:
    """A model that is not in the table is flagged, and costs as much as the dearest of its vendor."""
    request = hive.request(provider="vendor", model="claude-next")
    await hive.reserve(request)
    await hive.settle(request, TokenCounts(input=100, output=100))
    (call,) = (await hive.ledger.calls("ada", CallsQuery(limit=1))).calls
    assert (call.cost, call.flags) == (0.009, ["unknown_model"])


async def test_the_served_model_decides_on_the_price(hive: LedgerHive) -> None:
    """If the vendor serves another model than was asked for, its price counts."""
    request = hive.request(provider="vendor", model="claude-opus-4-8")
    await hive.reserve(request)
    await hive.settle(request, TokenCounts(input=1_000, output=100), served="claude-haiku-4-5")
    (call,) = (await hive.ledger.calls("ada", CallsQuery(limit=1))).calls
    assert (call.requested, call.served, call.cost) == ("claude-opus-4-8", "claude-haiku-4-5", 0.0015)


@pytest.mark.parametrize(
    ("tokens", "answered", "least"),
    [
        (TokenCounts(), 100, 0.003),
        (TokenCounts(input=0, output=50), 150, 0.003),
        (TokenCounts(input=1_000, output=0), 3_000, 0.003),
        (TokenCounts(input=1_000, output=1), 3_000, 0.003),
        (TokenCounts(input=50_000, output=10), 30, 0.05),
        (TokenCounts(input=100, output=40_000), 30, 0.08),
        (TokenCounts(input=1_000, output=1_000, reasoning=2_000), 30, 0.003),
    ],
)
async def test_wrong_figures_are_told(hive: LedgerHive, tokens: TokenCounts, answered: int, least: float) -> None:
    """Figures that cannot be right are told, once a day and provider, and never counted for less than what came."""
    for told in (["wrong_usage"], []):
        request = hive.request()
        await hive.reserve(request)
        assert [each.kind for each in await hive.settle(request, tokens, answered=answered)] == told
    (call, _) = (await hive.ledger.calls("ada", CallsQuery(limit=5))).calls
    assert "implausible" in call.flags
    assert call.cost >= least
    if call.cost > 0.003:
        assert "over_reserve" in call.flags


async def test_many_refusals_by_the_vendor_are_told(hive: LedgerHive) -> None:
    """A key that the vendor does not take is told once, and no more calls are passed on; a success ends the row."""

    async def refused(status: int) -> list[str]:
        request = hive.request()
        assert (await hive.reserve(request)).granted
        return [each.kind for each in await hive.settle(request, None, "failed", status=status)]

    for _ in range(MOST_REFUSALS - 1):
        assert await refused(401) == []
    await hive.spend()
    for _ in range(MOST_REFUSALS - 1):
        assert await refused(403) == []
    assert await refused(401) == ["vendor_refuses"]
    stopped = await hive.reserve(hive.request())
    assert not stopped.granted
    assert "the provider plain has refused 5 calls of ada in a row" in stopped.stopped
    assert (await hive.reserve(hive.request(provider="vendor", model="claude-haiku-4-5"))).granted
    assert (await hive.reserve(hive.request("bob"))).granted
    assert hive.ledger.is_stopped("ada") and not hive.ledger.is_stopped("bob")
    assert hive.ledger.let_go_on("ada") and not hive.ledger.let_go_on("ada")
    assert await refused(401) == []


async def test_a_relay_with_new_keys_lets_agents_go_on(hive: LedgerHive) -> None:
    """Refusals are forgotten when another relay comes, which has read the keys anew; not if the same comes back."""
    await hive.ledger.open_relay(RELAY)
    resumed: list[str] = []
    hive.ledger.on_resumed = resumed.extend
    for _ in range(MOST_REFUSALS):
        request = hive.request()
        await hive.reserve(request)
        await hive.settle(request, None, "failed", status=401)
    await hive.ledger.open_relay(RELAY)
    assert hive.ledger.is_stopped("ada")
    await hive.ledger.open_relay("relay-2")
    assert resumed == ["ada"]
    assert (await hive.reserve(hive.request())).granted


async def test_models_that_there_are_not_are_one_row(hive: LedgerHive) -> None:
    """An agent that asks for ever other models, which the vendor refuses, does not fill the sums."""
    for number in range(20):
        request = hive.request(model=f"made-up-{number}")
        await hive.reserve(request)
        await hive.settle(request, None, "failed", status=404)
    usage = await hive.ledger.usage(UsageQuery(by="model"))
    assert [(each.key, each.calls, each.cost) for each in usage.sums] == [("", 20, 0)]
    assert await hive.database.read(lambda db: db.execute("SELECT count(*) FROM model_sums").fetchone()) == (1,)


async def test_calls_come_in_pages(hive: LedgerHive) -> None:
    """The calls of an agent are read page by page, each from the last one's id on."""
    for _ in range(5):
        await hive.spend()
    first = (await hive.ledger.calls("ada", CallsQuery(limit=3))).calls
    rest = (await hive.ledger.calls("ada", CallsQuery(limit=3, before=first[-1].id))).calls
    ids = [call.id for call in (*first, *rest)]
    assert (len(ids), ids) == (5, sorted(ids, reverse=True))


async def test_sums_are_those_of_the_calls(hive: LedgerHive) -> None:
    """Usage by day, model and agent adds up to the same, and stays when old calls are deleted."""
    await hive.spend("ada", given=500)
    await hive.spend("bob")
    hive.now += DAY_MILLISECONDS
    await hive.spend("bob")
    for by, keys in (("day", ["2024-10-04", "2024-10-05"]), ("model", ["m"]), ("agent", ["bob", "ada"])):
        usage = await hive.ledger.usage(UsageQuery.model_validate({"by": by}))
        assert ([each.key for each in usage.sums], usage.total.calls, usage.total.cost) == (keys, 3, 0.0085)
    assert (await hive.ledger.usage(UsageQuery(agent="bob"))).total.cost == 0.006
    assert (await hive.ledger.usage(UsageQuery(since=date(2024, 10, 5)))).total.cost == 0.003
    newest = await hive.ledger.usage(UsageQuery(limit=1))
    assert ([each.key for each in newest.sums], newest.groups, newest.total.calls) == (["2024-10-05"], 2, 3)
    dearest = await hive.ledger.usage(UsageQuery(by="agent", limit=1))
    assert ([each.key for each in dearest.sums], dearest.groups) == (["bob"], 2)
    assert await hive.ledger.costs_today() == {"bob": 0.003}
    assert await hive.ledger.delete_old(0.5) == 2
    assert (await hive.ledger.usage(UsageQuery())).total.calls == 3
    assert len((await hive.ledger.calls("bob", CallsQuery(limit=5))).calls) == 1


async def test_calls_under_way_are_not_deleted(hive: LedgerHive) -> None:
    """A reservation stays, however old it is."""
    await hive.reserve(hive.request())
    hive.now += 100 * DAY_MILLISECONDS
    assert await hive.ledger.delete_old(1) == 0
