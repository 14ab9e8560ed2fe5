"""Looking at an inbox without taking anything."""

from __future__ import annotations

import pytest

from hive_core.messaging import store
from tests.unit.core.messaging.messaging_hive import LEASE_SECONDS, Hive


async def test_nothing_is_leased_by_looking(hive: Hive) -> None:
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


async def test_long_bodies(hive: Hive) -> None:
    """A body is cut at 2,000 characters, whatever they are, and its whole length told; `total` counts all."""
    bodies = ["\x00" * 3_000, "\U0001f41d" * 2_000, "", "x"]
    await hive.send(*bodies)
    found = await hive.broker.peek("ada", 3)
    assert [one.body for one in found.messages] == [body[:2_000] for body in bodies[:3]]
    assert [one.characters for one in found.messages] == [3_000, 2_000, 0]
    assert found.total == 4


async def test_a_look_reads_so_much(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inbox of the longest messages is not read from end to end; at least one message is shown."""
    await hive.send(*["x" * 1_000] * 5)
    monkeypatch.setattr(store, "_INBOX_BYTES", 2_500)
    found = await hive.broker.peek("ada", 200)
    assert (len(found.messages), found.total) == (2, 5)
    monkeypatch.setattr(store, "_INBOX_BYTES", 10)
    assert len((await hive.broker.peek("ada", 200)).messages) == 1
