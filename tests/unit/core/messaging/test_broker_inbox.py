"""The operator's inbox: how much of it an answer has, and whose answer is one."""

from __future__ import annotations

import asyncio

import pytest

from hive_core.messaging import store
from hive_core.protocol import MAX_BODY_BYTES, InboxQuery
from tests.unit.core.messaging.messaging_hive import LEASE_SECONDS, MessagingHive

LIMIT = 4 * 1024 * 1024


@pytest.mark.parametrize("view", ["unread", "all"])
async def test_a_large_inbox_is_read_in_parts(hive: MessagingHive, view: str) -> None:
    """An answer has at most 4 MiB of JSON and says how many are unread; `before` its oldest come the next."""
    ids = await hive.send(*["\n" * (MAX_BODY_BYTES // 2) + "x"] * 20, to="operator")
    found: list[int] = []
    before = None
    while len(found) < len(ids):
        answer = await hive.broker.inbox(InboxQuery(view=view, limit=1_000, before=before))  # type: ignore[arg-type]
        assert 0 < len(answer.messages) < len(ids)
        assert len(answer.model_dump_json().encode()) <= LIMIT
        assert answer.unread == len(ids)
        found = [message.id for message in answer.messages] + found
        before = found[0]
    assert found == ids


async def test_one_message_always_fits(hive: MessagingHive) -> None:
    """A body that makes more JSON than most is shown all the same."""
    ids = await hive.send(*["\x00" * MAX_BODY_BYTES] * 3, to="operator")
    answer = await hive.broker.inbox(InboxQuery())
    assert [message.id for message in answer.messages] == ids[-2:]


async def test_only_whom_the_operator_asked_can_answer(hive: MessagingHive) -> None:
    """Ids are easy to guess: another agent's message with the right `reply_to` is not taken for the answer."""
    (asked,) = await hive.send("how is it?", to="bob", sender="operator")
    await hive.send("I am bob", to="operator", sender="ada", reply_to=asked)
    assert (await hive.broker.wait_reply(asked, 0)).reply is None
    await hive.send("something else", to="operator", sender="bob", reply_to=asked + 1)
    assert (await hive.broker.wait_reply(asked, 0)).reply is None
    await hive.send("by the way", to="operator", sender="bob")
    (answer,) = await hive.send("it is well", to="operator", sender="bob", reply_to=asked)
    reply = (await hive.broker.wait_reply(asked, 0)).reply
    assert reply is not None and (reply.id, reply.sender) == (answer, "bob")


async def test_a_wait_ends_when_no_answer_is_to_come(hive: MessagingHive) -> None:
    """A message is not answered any more once it is handled, unless the agent has sent something meanwhile."""
    (asked,) = await hive.send("how is it?", sender="operator")
    waiting = asyncio.create_task(hive.broker.wait_reply(asked, 60))
    await hive.send("how is ada?")
    await hive.acknowledge(await hive.received())
    async with asyncio.timeout(10):
        answer = await waiting
    assert (answer.reply, answer.handled) == (None, True)
    (relayed,) = await hive.send("ask bob", sender="operator")
    assert not (await hive.broker.wait_reply(relayed, 0)).handled, "ada has not handled it"
    await hive.send("how is it?", to="bob", sender="ada")
    await hive.acknowledge(await hive.received())
    assert not (await hive.broker.wait_reply(relayed, 0)).handled, "ada may answer when bob has"


async def test_anyone_can_answer_what_everyone_was_asked(hive: MessagingHive) -> None:
    """The answer to a broadcast is the first message that names it, whoever sent it; one that names none is not."""
    (asked,) = await hive.send("who is there?", to="*", sender="operator")
    await hive.send("by the way", to="operator", sender="ada")
    assert (await hive.broker.wait_reply(asked, 0)).reply is None
    (answer,) = await hive.send("I am", to="operator", sender="bob", reply_to=asked)
    reply = (await hive.broker.wait_reply(asked, 0)).reply
    assert reply is not None and (reply.id, reply.sender) == (answer, "bob")


async def test_nothing_is_leased_by_looking(hive: MessagingHive) -> None:
    """What waits is shown oldest first, with what is leased at this moment; afterwards all of it is handed out."""
    first, second = await hive.send("one", "two")
    assert await hive.received(most=1) == [first]
    for _ in range(2):
        found = await hive.broker.peek("ada", 10)
        assert [(one.id, one.sender, one.body, one.leased) for one in found.messages] == [
            (first, "bob", "one", True),
            (second, "bob", "two", False),
        ]
    assert await hive.received() == [second]
    hive.now += LEASE_SECONDS * 1_000
    assert [one.leased for one in (await hive.broker.peek("ada", 10)).messages] == [False, False]
    await hive.broker.hello("ada", "instance-2")
    await hive.receive(instance="instance-2")
    await hive.acknowledge([first], "instance-2")
    found = await hive.broker.peek("ada", 10)
    assert ([one.id for one in found.messages], found.total) == ([second], 1)


async def test_long_bodies(hive: MessagingHive) -> None:
    """A body is cut at 2,000 characters, whatever they are, and its whole length told; `total` counts all."""
    bodies = ["\x00" * 3_000, "\U0001f41d" * 2_000, "y", "x"]
    await hive.send(*bodies)
    found = await hive.broker.peek("ada", 3)
    assert [one.body for one in found.messages] == [body[:2_000] for body in bodies[:3]]
    assert [one.characters for one in found.messages] == [3_000, 2_000, 1]
    assert found.total == 4


async def test_a_look_reads_so_much(hive: MessagingHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inbox of the longest messages is not read from end to end; at least one message is shown."""
    await hive.send(*["x" * 1_000] * 5)
    monkeypatch.setattr(store, "_INBOX_BYTES", 2_500)
    found = await hive.broker.peek("ada", 200)
    assert (len(found.messages), found.total) == (2, 5)
    monkeypatch.setattr(store, "_INBOX_BYTES", 10)
    assert len((await hive.broker.peek("ada", 200)).messages) == 1
