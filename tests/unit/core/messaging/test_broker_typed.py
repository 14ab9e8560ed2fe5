"""Messages typed on an agent's page, which serves the page and so can type there itself."""

from __future__ import annotations

import pytest

from hive_core.errors import HiveError
from hive_core.infra.database.space import DatabaseSpace
from hive_core.messaging import Broker
from hive_core.messaging.store import page_key
from hive_core.protocol import InboxQuery, SendRequest
from tests.unit.core.messaging.messaging_hive import FIRST, UNLIMITED, MessagingHive


async def typed(broker: Broker, key: str, body: str = "do it") -> str:
    """Type on ada's page; returns the code of the refusal, or an empty text."""
    try:
        await broker.send("operator", SendRequest(to="ada", body=body, idempotency_key=page_key("ada", key)))
    except HiveError as error:
        return error.code
    return ""


async def start(hive: MessagingHive, **budgets: int) -> None:
    """A daemon begins."""
    hive.inbox_limit(100, UNLIMITED.model_copy(update=budgets))
    await hive.broker.open()
    await hive.broker.hello("ada", FIRST)


async def test_what_is_typed_has_the_room_of_the_agent(hive: MessagingHive) -> None:
    """Typed messages wait in the agent's share, also after a restart; the operator's others have their own room."""
    await start(hive, unacknowledged_to_one=3)
    assert [await typed(hive.broker, str(number)) for number in range(4)] == ["", "", "", "too_many_waiting"]
    await hive.send("from the terminal", sender="operator")
    await start(hive, unacknowledged_to_one=3)
    assert await typed(hive.broker, "4") == "too_many_waiting"
    ids = await hive.received()
    assert len(ids) == 4
    await hive.acknowledge(ids[:1])
    assert [await typed(hive.broker, number) for number in ("5", "6")] == ["", "too_many_waiting"]
    await hive.acknowledge(ids[3:])
    assert await typed(hive.broker, "7") == "too_many_waiting"


async def test_what_is_typed_leaves_the_room_of_the_operator(hive: MessagingHive) -> None:
    """The tenth of an inbox that is kept for the operator cannot be filled from the agent's page."""
    await start(hive)
    assert [await typed(hive.broker, str(number)) for number in range(91)] == [*[""] * 90, "inbox_full"]
    await hive.send(*["stop that"] * 10, sender="operator")
    with pytest.raises(HiveError, match="100 messages wait there already"):
        await hive.send("more", sender="operator")


async def test_what_is_typed_spends_the_budget_of_the_agent(hive: MessagingHive) -> None:
    """Typed messages count per minute like messages of the agent to itself, also after a restart."""
    await start(hive, messages_per_minute_to_one=2)
    assert [await typed(hive.broker, number) for number in "abc"] == ["", "", "sending_too_fast"]
    await start(hive, messages_per_minute_to_one=2)
    assert await typed(hive.broker, "d") == "sending_too_fast"
    await hive.send(*["x"] * 5, sender="operator")
    await hive.send("x", "x", to="bob", sender="ada")


async def test_what_is_typed_leaves_the_reserve_of_the_database(hive: MessagingHive) -> None:
    """In a full database a page is refused like the agent, and the operator is not."""
    space = DatabaseSpace(hive.database, 1_000_000)
    hive.inbox_limit(100, space=space)
    await hive.broker.open()
    assert await typed(hive.broker, "a") == ""
    space.add(1_000_000)
    assert await typed(hive.broker, "b") == "database_full"
    await hive.send("stop that", sender="operator")


async def test_what_is_typed_is_from_the_operator(hive: MessagingHive) -> None:
    """The agent is told that it is the operator's, and its answer reaches the operator."""
    await start(hive)
    await typed(hive.broker, "a", "hello")
    (delivery,) = (await hive.receive()).deliveries
    assert (delivery.sender, delivery.body) == ("operator", "hello")
    await hive.send("hello", to="operator", sender="ada", reply_to=delivery.id)
    assert [one.reply_to for one in (await hive.broker.inbox(InboxQuery())).messages] == [delivery.id]
