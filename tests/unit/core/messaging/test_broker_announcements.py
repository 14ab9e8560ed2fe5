"""Messages of the hive's own, stored in one transaction with what they tell of."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from structlog.testing import capture_logs

from hive_core.errors import HiveError
from hive_core.protocol import MAX_BODY_BYTES, InboxQuery, SendRequest
from tests.unit.core.messaging.messaging_hive import MessagingHive

LONG = 60.0
PROMPT = 10
NOTICES = [("ada", "one"), ("operator", "two"), ("ada", "three")]


def keep(db: sqlite3.Connection) -> str:
    """A change whose fate is that of the announcement."""
    db.execute("INSERT INTO web_ports VALUES ('kept', 1)")
    return "done"


def fail(db: sqlite3.Connection) -> None:
    keep(db)
    raise HiveError("ref_moved", "too late", status=409)


async def send(hive: MessagingHive, body: str) -> None:
    """Submitted at once, unlike `MessagingHive.send`, which begins with tasks."""
    await hive.broker.send("bob", SendRequest(to="ada", body=body))


async def bodies(hive: MessagingHive) -> list[str]:
    """Whatever is stored, oldest first."""
    return await hive.database.read(lambda db: [body for (body,) in db.execute("SELECT body FROM messages")])


async def kept(hive: MessagingHive) -> bool:
    return await hive.database.read(lambda db: db.execute("SELECT 1 FROM web_ports").fetchone() is not None)


async def test_all_is_stored_in_one_commit(hive: MessagingHive) -> None:
    """The change and its messages are on disk together, and the messages come from the hive, in their order."""
    before = hive.commits
    assert await hive.broker.announce(NOTICES, keep) == "done"
    assert hive.commits == before + 1
    assert await kept(hive)
    deliveries = (await hive.receive()).deliveries
    assert [(one.sender, one.body) for one in deliveries] == [
        ("system", "one"),
        ("system", "three"),
    ]
    assert [one.body for one in (await hive.broker.inbox(InboxQuery())).messages] == ["two"]
    assert (hive.broker.unacknowledged("ada"), hive.broker.unacknowledged("operator")) == (2, 1)
    await hive.acknowledge([one.id for one in deliveries])
    assert hive.broker.unacknowledged("ada") == 0


async def test_without_messages_only_the_change_is_made(hive: MessagingHive) -> None:
    """Nobody has to be told of everything."""
    assert await hive.broker.announce([], keep) == "done"
    assert await kept(hive)


async def test_a_change_that_fails_is_told_to_nobody(hive: MessagingHive) -> None:
    """No message is stored, nobody's inbox counts one, who waits goes on waiting and gets the next message."""
    polling = hive.receive(wait=LONG)
    for _ in range(3):
        await asyncio.sleep(0)
    with pytest.raises(HiveError, match="too late"):
        await hive.broker.announce(NOTICES, fail)
    assert await bodies(hive) == [] and not await kept(hive)
    assert (hive.broker.unacknowledged("ada"), hive.broker.unacknowledged("operator")) == (0, 0)
    assert not polling.done()
    (number,) = await hive.send("next")
    async with asyncio.timeout(PROMPT):
        assert [one.id for one in (await polling).deliveries] == [number]


async def test_messages_that_cannot_be_stored_undo_the_change(hive: MessagingHive) -> None:
    """There is no change that nobody is told of."""
    refuse = "CREATE TRIGGER no BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'no'); END"
    await hive.database.write(lambda db: db.execute(refuse).rowcount)
    with pytest.raises(sqlite3.IntegrityError):
        await hive.broker.announce(NOTICES, keep)
    assert not await kept(hive)
    assert hive.broker.unacknowledged("ada") == 0


async def test_who_waits_is_woken_by_the_same_commit(hive: MessagingHive) -> None:
    """An announcement reaches a long poll as fast as any message."""
    polling = hive.receive(wait=LONG)
    for _ in range(3):
        await asyncio.sleep(0)
    before = hive.commits
    await hive.broker.announce([("ada", "wake up")], keep)
    async with asyncio.timeout(PROMPT):
        assert [one.body for one in (await polling).deliveries] == ["wake up"]
    assert hive.commits == before + 1


async def test_who_cannot_be_told_is_left_out(hive: MessagingHive) -> None:
    """No room for notices and an unknown name are logged; the change is made and the others are told."""
    hive.inbox_limit(2)
    await hive.send("fills", to="bob", sender="ada")
    with capture_logs() as logged:
        notices = [("bob", "1"), ("bob", "2"), ("bob", "too much"), ("gone", "nobody"), ("*", "all"), ("ada", "told")]
        assert await hive.broker.announce(notices, keep) == "done"
    assert await bodies(hive) == ["fills", "1", "2", "all", "told"]
    assert [one.body for one in (await hive.receive()).deliveries] == ["all", "told"]
    assert hive.broker.unacknowledged("bob") == 3
    assert [(line["to"], line["code"]) for line in logged] == [
        (["bob"], "inbox_full"),
        ("gone", "unknown_recipient"),
        (["bob"], "inbox_full"),
    ]


async def test_everybody_hears_of_things_in_their_order(hive: MessagingHive) -> None:
    """What is sent before an announcement is stored before it; what is sent after it, after it; ids say the same."""

    def seen(db: sqlite3.Connection) -> list[str]:
        return [body for (body,) in db.execute("SELECT body FROM messages ORDER BY id")]

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send(hive, "before"))
        announced = tasks.create_task(hive.broker.announce([("ada", "announced")], seen))
        tasks.create_task(send(hive, "after"))
        again = tasks.create_task(hive.broker.announce([("ada", "again")], seen))
        tasks.create_task(send(hive, "last"))
    assert announced.result() == ["before"]
    assert again.result() == ["before", "announced", "after"]
    assert [one.body for one in (await hive.receive()).deliveries] == ["before", "announced", "after", "again", "last"]


async def test_an_announcement_outlives_its_caller(hive: MessagingHive) -> None:
    """A caller that goes away while it is on its way changes nothing: it is stored, counted and delivered."""
    polling = hive.receive(wait=LONG)
    announcing = asyncio.create_task(hive.broker.announce([("ada", "still")], keep))
    while not hive.broker.unacknowledged("ada"):
        await asyncio.sleep(0)
    announcing.cancel()
    async with asyncio.timeout(PROMPT):
        assert [one.body for one in (await polling).deliveries] == ["still"]
    assert announcing.cancelled() and await kept(hive)


async def test_a_failure_after_its_caller_left_is_counted_right(hive: MessagingHive) -> None:
    """Nobody is there to hear of it, and no inbox keeps counting a message that is not there."""
    announcing = asyncio.create_task(hive.broker.announce([("ada", "never")], fail))
    while not hive.broker.unacknowledged("ada"):
        await asyncio.sleep(0)
    announcing.cancel()
    await asyncio.wait([announcing])
    await hive.send("behind it")
    assert hive.broker.unacknowledged("ada") == 1


async def test_a_stopping_daemon_refuses_and_counts_nothing(hive: MessagingHive) -> None:
    """What is not even queued leaves no trace."""
    hive.database.finish()
    with pytest.raises(HiveError) as refused:
        await hive.broker.announce(NOTICES, keep)
    assert refused.value.code == "stopping"
    assert hive.broker.unacknowledged("ada") == 0


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f41d"])
async def test_a_body_that_is_too_long_is_cut(hive: MessagingHive, letter: str) -> None:
    """It is stored up to the limit of every message, in whole characters, and says that it was cut."""
    await hive.broker.announce([("ada", letter * MAX_BODY_BYTES + "x"), ("operator", "x" * MAX_BODY_BYTES)], keep)
    (cut,) = (await hive.receive()).deliveries
    assert MAX_BODY_BYTES - 3 <= len(cut.body.encode()) <= MAX_BODY_BYTES
    assert cut.body.endswith("cut off.]") and cut.body.strip(letter).startswith("\n")
    (whole,) = (await hive.broker.inbox(InboxQuery())).messages
    assert whole.body == "x" * MAX_BODY_BYTES


async def test_announcements_are_seen_by_who_watches(hive: MessagingHive) -> None:
    """They are events like every other message, told after the commit."""
    after = hive.events.last_id
    await hive.broker.announce([("ada", "one")], keep)
    with pytest.raises(sqlite3.IntegrityError):
        await hive.broker.announce([("ada", "two")], keep)  # For the second time.
    await send(hive, "three")
    with hive.events.reader(after) as events:
        told = [await anext(events), await anext(events)]
    assert [(one.data["sender"], one.data["body"]) for one in told if one] == [("system", "one"), ("bob", "three")]
