"""The operator's inbox: how much of it an answer has, and whose answer is one."""

from __future__ import annotations

import pytest

from hive_core.protocol import MAX_BODY_BYTES, InboxQuery
from tests.unit.core.messaging.messaging_hive import Hive

LIMIT = 4 * 1024 * 1024


@pytest.mark.parametrize("view", ["unread", "all"])
async def test_a_large_inbox_is_read_in_parts(hive: Hive, view: str) -> None:
    """An answer has at most 4 MiB of JSON and says how many are unread; `before` its oldest come the next."""
    ids = await hive.send(*["\n" * (MAX_BODY_BYTES // 2)] * 20, to="operator")
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


async def test_one_message_always_fits(hive: Hive) -> None:
    """A body that makes more JSON than most is shown all the same."""
    ids = await hive.send(*["\x00" * MAX_BODY_BYTES] * 3, to="operator")
    answer = await hive.broker.inbox(InboxQuery())
    assert [message.id for message in answer.messages] == ids[-2:]


async def test_only_whom_the_operator_asked_can_answer(hive: Hive) -> None:
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


async def test_anyone_can_answer_what_everyone_was_asked(hive: Hive) -> None:
    """The answer to a broadcast is the first message that names it, whoever sent it; one that names none is not."""
    (asked,) = await hive.send("who is there?", to="*", sender="operator")
    await hive.send("by the way", to="operator", sender="ada")
    assert (await hive.broker.wait_reply(asked, 0)).reply is None
    (answer,) = await hive.send("I am", to="operator", sender="bob", reply_to=asked)
    reply = (await hive.broker.wait_reply(asked, 0)).reply
    assert reply is not None and (reply.id, reply.sender) == (answer, "bob")
