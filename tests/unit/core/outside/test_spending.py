"""The spending of agents: what is told, what is refused, and who goes on when there is money again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from hive_core.errors import HiveError
from hive_core.outside.models.budgets import DAY_MILLISECONDS
from hive_core.outside.models.vendor_refusals import MOST_REFUSALS
from hive_core.protocol.models.budgets import AddBudgetRequest
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.usage import CallsQuery, UsageQuery
from tests.unit.core.outside.spending_hive import ROOT, SpendingHive, spending_hive


@pytest.fixture
async def hive() -> AsyncIterator[SpendingHive]:
    """A hive with providers and without limits."""
    async with spending_hive() as hive:
        yield hive


def money(dollars: float, note: str = "") -> AddBudgetRequest:
    return AddBudgetRequest(money=dollars, note=note)


async def test_the_operator_is_told_once(hive: SpendingHive) -> None:
    """80 % of a limit and its end are one message each, with the command that adds money, also over a restart."""
    hive.money.limits["ada"] = SpendingLimits(money_per_day=0.0121)
    for _ in range(4):
        assert await hive.spend()
    (warning,) = await hive.messages()
    assert warning.startswith("80% of the spending limit a day of ada is reached: $0.01 of $0.01 is spent.")
    hive.restart()
    for _ in range(3):
        assert not await hive.spend()
        await hive.settled()
        hive.restart()
    (_, refusal) = await hive.messages()
    assert "hive-c0re budget ada --add AMOUNT" in refusal.splitlines()[0]
    hive.money.now += DAY_MILLISECONDS
    for _ in range(4):
        assert await hive.spend()
    assert len(await hive.messages()) == 3


async def test_a_message_that_is_not_stored_is_told_later(hive: SpendingHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call tells of a limit again if the message about it was not stored: nothing counts as told before."""
    hive.money.limits["ada"] = SpendingLimits(calls_per_day=1)
    assert await hive.spend()
    assert len(await hive.messages()) == 1

    async def full(*_: object) -> None:
        raise HiveError("disk_full", "no room", status=507)

    with monkeypatch.context() as patch:
        patch.setattr(hive.broker, "announce", full)
        assert not await hive.spend()
        await hive.settled()
    assert not await hive.spend()
    assert len(await hive.messages()) == 2


async def test_added_money_lets_an_agent_go_on(hive: SpendingHive) -> None:
    """Money for an agent is audited with its note, and its harness is told only if it waits for money."""
    hive.money.limits = {name: SpendingLimits(money_per_day=0.003, money_total=1) for name in ("ada", "bob")}
    assert await hive.spend() and not await hive.spend()
    hive.states["ada"] = "budget"
    answer = await hive.spending.add("ada", money(0.5, "the report"), ROOT)
    await hive.settled()
    assert hive.told == ["ada"]
    assert await hive.spend() and await hive.reserve("bob") is not None
    states = {(state.whose, state.period): state for state in answer.limits}
    assert (states["ada", "day"].limit, states["ada", "total"].limit) == (0.503, 1.5)
    assert (answer.spent_today, answer.spent_total) == (0.003, 0.003)
    ((actor, action, subject, detail),) = await hive.audited()
    assert (actor, action, subject) == ("operator:root", "budget", "ada")
    assert json.loads(detail) == {"money": 0.5, "note": "the report"}
    await hive.spending.add("bob", money(1), ROOT)
    await hive.settled()
    assert hive.told == ["ada"]


async def test_money_for_the_hive_lets_all_that_wait_go_on(hive: SpendingHive) -> None:
    """Money for all agents raises the hive's limits, and every agent that waits is told; one that is away is none."""
    hive.money.hive_limits = SpendingLimits(money_per_day=0.003)
    hive.restart()
    assert await hive.spend("bob") and not await hive.spend("ada") and not await hive.spend("bob")
    assert [text.split(":")[0] for text in await hive.messages()] == [
        "80% of the spending limit a day of the hive is reached",
        "The spending limit a day of the hive does not allow a call",
    ]
    hive.states.update(ada="budget", bob="budget")
    hive.unreachable.add("bob")
    answer = await hive.spending.add("all", money(1), ROOT)
    await hive.settled()
    assert hive.told == ["ada"]
    assert [(state.whose, state.limit) for state in answer.limits] == [("all", 1.003)]
    assert await hive.spend("ada") and await hive.spend("bob")


async def test_money_that_comes_while_a_refusal_is_on_its_way(hive: SpendingHive) -> None:
    """An agent whose call was refused before money was added, and that reports it after that, goes on at once."""
    hive.money.limits["ada"] = SpendingLimits(money_per_day=0.003)
    assert await hive.spend() and not await hive.spend()
    hive.states["ada"] = "thinking"
    await hive.spending.add("ada", money(1), ROOT)
    hive.spending.harness_reported("ada", "thinking")
    hive.spending.harness_reported("ada", "budget")
    await hive.settled()
    assert hive.told == ["ada"]
    hive.spending.harness_reported("ada", "budget")
    await hive.settled()
    assert hive.told == ["ada"], "there is no news of money since"


async def test_money_for_a_destroyed_agent_is_not_of_the_next_one(hive: SpendingHive) -> None:
    """An agent that gets the name of a destroyed one is not told of the money that the other one was given."""
    hive.money.limits["ada"] = SpendingLimits(money_per_day=0.003)
    await hive.spending.add("ada", money(1), ROOT)
    record = hive.agents.records.pop("ada")
    hive.spending.agent_changed("ada")
    hive.agents.records["ada"] = record
    hive.spending.harness_reported("ada", "budget")
    await hive.settled()
    assert hive.told == []


async def test_a_limit_that_is_not_there_is_not_raised(hive: SpendingHive) -> None:
    """Money for an agent, or a hive, without a limit of money is refused, with where to set one."""
    hive.money.limits["ada"] = SpendingLimits(calls_per_day=1)
    for whose, where in (("ada", "agent.toml"), ("all", "the settings")):
        with pytest.raises(HiveError) as caught:
            await hive.spending.add(whose, money(1), ROOT)
        assert caught.value.code == "no_money_limit"
        assert where in caught.value.hint
    assert await hive.audited() == []


async def test_a_vendor_that_refuses_stops_the_agent_once(hive: SpendingHive) -> None:
    """After five refusals no call reaches the vendor and one message tells it; a person lets the agent go on."""
    for _ in range(MOST_REFUSALS):
        assert await hive.refuse()
    assert not await hive.refuse() and not await hive.spend()
    assert hive.spending.is_stopped("ada") and not hive.spending.is_stopped("bob")
    (told,) = await hive.messages()
    assert told.startswith("ada is stopped: the provider plain has refused 5 of its calls in a row.")
    assert (await hive.spending.budget("ada")).stopped == ["ada"]
    assert await hive.spending.let_go_on("ada")
    assert not await hive.spending.let_go_on("ada")
    assert hive.told == ["ada"]
    assert await hive.spend()


async def test_a_new_relay_lets_stopped_agents_go_on(hive: SpendingHive) -> None:
    """Agents that were stopped are told to go on when the relay comes back with other keys."""
    await hive.money.ledger.open_relay("relay-1")
    for _ in range(MOST_REFUSALS):
        await hive.refuse("bob", 403)
    await hive.money.ledger.open_relay("relay-2")
    await hive.settled()
    assert hive.told == ["bob"]
    assert await hive.spend("bob")


async def test_unknown_names(hive: SpendingHive) -> None:
    """A name that the hive does not have is refused; the calls of an agent that is gone are still shown."""
    assert await hive.spend("bob")
    del hive.agents.records["bob"]
    assert (await hive.spending.usage(UsageQuery(agent="bob"))).total.calls == 1
    assert len((await hive.spending.calls("bob", CallsQuery())).calls) == 1
    for ask in (
        hive.spending.usage(UsageQuery(agent="eve")),
        hive.spending.calls("eve", CallsQuery()),
        hive.spending.budget("bob"),
    ):
        with pytest.raises(HiveError) as caught:
            await ask
        assert caught.value.code == "unknown_agent"


async def test_without_providers_there_is_no_ledger(hive: SpendingHive) -> None:
    """A hive without providers says so, but shows what an earlier one has spent; its status has no costs."""
    hive.restart(has_providers=False)
    for ask in (
        hive.spending.usage(UsageQuery()),
        hive.spending.calls("ada", CallsQuery()),
        hive.spending.budget("ada"),
        hive.spending.all_budgets(),
        hive.spending.own_budget("ada"),
        hive.spending.add("all", money(1), ROOT),
    ):
        with pytest.raises(HiveError) as caught:
            await ask
        assert caught.value.code == "no_providers"
    assert await hive.spend()
    assert (await hive.spending.usage(UsageQuery())).total.calls == 1


async def test_an_agent_sees_its_own_budget_only(hive: SpendingHive) -> None:
    """An agent is told nothing of the hive's limits, nor of others."""
    hive.money.limits = {name: SpendingLimits(money_per_day=1) for name in ("ada", "bob")}
    hive.money.hive_limits = SpendingLimits(money_per_day=2)
    hive.restart()
    assert [state.whose for state in (await hive.spending.own_budget("ada")).limits] == ["ada"]
    assert [state.whose for state in (await hive.spending.budget("ada")).limits] == ["ada", "all"]
    assert [state.whose for state in (await hive.spending.all_budgets()).limits] == ["all", "ada", "bob"]
