"""Messages of a loop, between their sender and their recipient."""

from __future__ import annotations

import asyncio

import pytest

from hive_core.errors import HiveError
from hive_core.messaging.fairness.loops import BURST
from hive_core.protocol import InboxQuery, ReceiveAnswer, ReceiveRequest, SendRequest
from hive_core.settings import Budgets
from tests.unit.core.messaging.messaging_hive import FIRST, UNLIMITED, MessagingHive

SECOND = "instance-2"
PER_MINUTE = 10
PACE = 60_000 // PER_MINUTE
PACED = UNLIMITED.model_copy(update={"loop_messages_per_minute": PER_MINUTE})


async def start(hive: MessagingHive, budgets: Budgets = PACED) -> None:
    """A daemon begins, on whose sockets both agents are heard."""
    hive.inbox_limit(10_000, budgets)
    await hive.broker.open()
    await hive.broker.hello("ada", FIRST)
    await hive.broker.hello("bob", SECOND)


async def receive(hive: MessagingHive, name: str, wait: float = 0.0) -> ReceiveAnswer:
    instance = FIRST if name == "ada" else SECOND
    return await hive.broker.receive(name, ReceiveRequest(instance=instance, max=100, wait_seconds=wait))


async def answer_each_other(hive: MessagingHive, rounds: int) -> str:
    """ada and bob answer each other at once, until nothing is handed out; returns whose turn it would be."""
    await hive.send("hello", to="bob", sender="ada")
    for count in range(rounds):
        name, other, instance = ("bob", "ada", SECOND) if count % 2 == 0 else ("ada", "bob", FIRST)
        deliveries = (await receive(hive, name)).deliveries
        if not deliveries:
            return name
        for delivery in deliveries:
            await hive.broker.send(name, SendRequest(to=other, body=f"answer {count}", reply_to=delivery.id))
        await hive.broker.acknowledge(name, instance, [delivery.id for delivery in deliveries])
        hive.now += 100
    raise AssertionError("nothing slowed them")


async def told(hive: MessagingHive) -> list[str]:
    """Return the messages of the hive to the operator."""
    await asyncio.sleep(0.05)
    return [one.body for one in (await hive.broker.inbox(InboxQuery())).messages if one.sender == "system"]


async def test_a_loop_is_slowed_and_told_of(hive: MessagingHive) -> None:
    """After a burst the next answer is stored, and handed out when its time has come; the operator is told once."""
    await start(hive)
    name = await answer_each_other(hive, 2 * BURST)
    (notice,) = await told(hive)
    first_line = notice.splitlines()[0]
    assert first_line.startswith("ada and bob only answer each other: ")
    assert first_line.endswith("these are delivered 10 a minute, in order, and none is dropped.")
    assert hive.broker.unacknowledged(name) == 1
    waiting = (await hive.broker.peek(name, 10)).messages
    assert [one.leased for one in waiting] == [False]
    hive.now += PACE
    (delivery,) = (await receive(hive, name)).deliveries
    assert (delivery.id, delivery.attempt, delivery.redelivered) == (waiting[0].id, 1, False)
    assert len(await told(hive)) == 1


async def test_a_second_acknowledgement_hides_no_loop(hive: MessagingHive) -> None:
    """An agent that acknowledges everything twice before it answers is slowed like any other, and told of."""
    await start(hive)
    await hive.send("hello", to="bob", sender="ada")
    exchanged = 0
    for count in range(300):
        name, other, instance = ("bob", "ada", SECOND) if count % 2 == 0 else ("ada", "bob", FIRST)
        ids = [delivery.id for delivery in (await receive(hive, name)).deliveries]
        if not ids:
            break
        exchanged += 1
        for expected in (ids, []):
            assert (await hive.broker.acknowledge(name, instance, ids)).ids == expected
        await hive.send("thank you", to=other, sender=name)
        hive.now += 100
    assert BURST <= exchanged < 2 * BURST
    (notice,) = await told(hive)
    assert notice.startswith("ada and bob only answer each other: ")


async def test_a_long_poll_ends_when_a_delayed_message_is_due(hive: MessagingHive) -> None:
    """A recipient that waits gets it then, without another message that would wake it."""
    await start(hive, PACED.model_copy(update={"loop_messages_per_minute": 60}))
    name = await answer_each_other(hive, 100 * BURST)
    polling = asyncio.create_task(receive(hive, name, 30.0))
    await asyncio.sleep(0.2)
    assert not polling.done()  # The clock of the test stands still.
    hive.now += 1_000
    async with asyncio.timeout(10):
        assert len((await polling).deliveries) == 1


async def test_order_stays(hive: MessagingHive) -> None:
    """Messages of a sender behind a delayed one, for whatever reason, come after it; those of others overtake it."""
    await start(hive)
    name = await answer_each_other(hive, 2 * BURST)
    other = "ada" if name == "bob" else "bob"
    delayed = (await hive.broker.peek(name, 10)).messages[0].id
    behind = await hive.send("1", "2", to=name, sender=other)
    operators = await hive.send("stop that", to=name, sender="operator")
    assert [one.id for one in (await receive(hive, name)).deliveries] == operators
    hive.now += 60 * PACE
    later = [one.id for one in (await receive(hive, name)).deliveries]
    assert [number for number in later if number not in operators] == [delayed, *behind]


async def test_delays_outlive_a_restart(hive: MessagingHive) -> None:
    """A delayed message stays delayed, what is sent behind it stays behind it, and nobody is told again."""
    await start(hive)
    name = await answer_each_other(hive, 2 * BURST)
    other = "ada" if name == "bob" else "bob"
    (notice,) = await told(hive)
    await start(hive)
    assert (await receive(hive, name)).deliveries == []
    behind = await hive.send("behind", to=name, sender=other)
    assert (await receive(hive, name)).deliveries == []
    hive.now += 2 * PACE
    assert [one.id for one in (await receive(hive, name)).deliveries][-1:] == behind
    assert await told(hive) == [notice]


async def test_delayed_messages_do_not_hide_others(hive: MessagingHive) -> None:
    """A thousand delayed messages at the head of an inbox do not keep newer ones of others from being handed out."""
    await start(hive)
    name = await answer_each_other(hive, 2 * BURST)
    other = "ada" if name == "bob" else "bob"
    await hive.send("work on this", to=other, sender="operator")
    assert len((await receive(hive, other)).deliveries) == 1  # What it sends now belongs to no loop, but comes behind.
    await hive.send(*map(str, range(1_100)), to=name, sender=other)
    operators = await hive.send("stop that", to=name, sender="operator")
    assert [one.id for one in (await receive(hive, name)).deliveries] == operators


async def test_what_would_wait_too_long_is_refused(hive: MessagingHive) -> None:
    """A loop that grows is refused in words that name the reason, and the operator is not."""
    await start(hive)
    name = await answer_each_other(hive, 2 * BURST)
    other = "ada" if name == "bob" else "bob"
    hive.now += PACE
    await receive(hive, name)
    with pytest.raises(HiveError) as refused:
        await hive.send(*map(str, range(100)), to=other, sender=name)
    assert refused.value.code == "sending_too_fast"
    assert "only answer each other" in refused.value.message
    await hive.send("go on", to=name, sender="operator")
