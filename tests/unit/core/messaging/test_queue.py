"""What the operator changes in queues: only what nobody holds, in keeping with orders, told and audited."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from hive_core.errors import HiveError
from tests.unit.core.messaging.messaging_hive import MessagingHive

ACTOR = "operator:alice"


async def refusal(call: Coroutine[Any, Any, object]) -> str:
    with pytest.raises(HiveError) as refused:
        await call
    return refused.value.code


async def test_what_an_agent_handles_is_not_changed(hive: MessagingHive) -> None:
    """A message that was handed out is not removed, edited or moved, nor is one that was handled or never sent."""
    held, handled, waits = await hive.send("one", "two", "three")
    assert await hive.received(most=2) == [held, handled]
    await hive.acknowledge([handled])
    for number, code in ((held, "being_handled"), (handled, "not_in_queue"), (999, "unknown_message")):
        assert await refusal(hive.broker.remove_waiting("ada", number, "", ACTOR)) == code
        assert await refusal(hive.broker.edit_waiting("ada", number, "x", ACTOR)) == code
        assert await refusal(hive.broker.move_waiting("ada", number, None, ACTOR)) == code
    assert await hive.received(holding=[held]) == [waits]


async def test_orders_are_kept(hive: MessagingHive) -> None:
    """No message of an agent overtakes an earlier one of the same agent; the operator's own may."""
    first, second = await hive.send("one", "two")
    third, fourth = await hive.send("three", "four", sender="operator")
    assert await refusal(hive.broker.move_waiting("ada", second, first, ACTOR)) == "queue_order"
    await hive.broker.move_waiting("ada", fourth, first, ACTOR)
    await hive.broker.move_waiting("ada", third, None, ACTOR)
    assert await hive.received() == [fourth, first, second, third]


async def test_changes_are_told_and_audited(hive: MessagingHive) -> None:
    """An agent is told what became of its message, an edited text says so, and each change is an audit row."""
    removed, edited = await hive.send("one", "two")
    await hive.broker.remove_waiting("ada", removed, "no need", ACTOR)
    await hive.broker.edit_waiting("ada", edited, "zwei", ACTOR)
    assert [message.body for message in (await hive.broker.peek("ada", 10)).messages] == [
        "zwei\n\n(The operator has edited this message.)"
    ]
    told = [message.body for message in (await hive.broker.peek("bob", 10)).messages]
    assert len(told) == 2 and told[0].startswith(f"The operator has removed your message {removed} to ada.")
    assert "no need" in told[0] and told[1].startswith(f"The operator has edited your message {edited} to ada.")
    query = "SELECT actor, action, subject FROM audit WHERE action LIKE 'queue_%' ORDER BY id"
    rows = await hive.database.read(lambda db: db.execute(query).fetchall())
    assert [tuple(row) for row in rows] == [(ACTOR, "queue_remove", "ada"), (ACTOR, "queue_edit", "ada")]
