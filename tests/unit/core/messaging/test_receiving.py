"""How many receives of one agent are under way at once."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import pytest

from hive_core.errors import HiveError
from hive_core.messaging.receiving import MOST_POLLS
from hive_core.protocol import ReceiveAnswer
from tests.unit.core.messaging.messaging_hive import MessagingHive

LONG = 60.0
PROMPT = 10


async def test_a_newer_receive_with_holding_ends_the_older(hive: MessagingHive) -> None:
    """The older one is answered at once, with nothing; a message goes to the newer one. Others are left alone."""
    plain = hive.receive(wait=LONG)
    older = hive.receive(wait=LONG, holding=[])
    await asyncio.sleep(0)
    newer = hive.receive(wait=LONG, holding=[])
    async with asyncio.timeout(PROMPT):
        assert (await older).deliveries == []
        assert not plain.done()
        plain.cancel()
        (number,) = await hive.send("for the newer")
        assert [one.id for one in (await newer).deliveries] == [number]


async def test_many_receives_with_holding_build_each_message_once(hive: MessagingHive) -> None:
    """However many connections ask with `holding: []`, only the last of them is given the messages."""
    ids = await hive.send("one", "two")
    polls = [hive.receive(holding=[]) for _ in range(50)]
    answers = await asyncio.gather(*polls)
    assert [[one.id for one in answer.deliveries] for answer in answers] == [[]] * 49 + [ids]
    assert {one.attempt for one in answers[-1].deliveries} == {1}


async def test_what_a_replaced_receive_had_leased_is_free_again(hive: MessagingHive) -> None:
    """Messages that were leased for an older receive when the newer came, and that the newer left, go to the next."""
    ids = await hive.send("one", "two", "three")
    leased, may_commit = threading.Event(), threading.Event()

    def pause(_: sqlite3.Connection) -> None:
        leased.set()
        may_commit.wait(PROMPT)

    older = hive.receive(holding=[])
    await asyncio.sleep(0)  # Its lease is queued now, and the pause comes after it in the same transaction.
    pausing = hive.database.submit(pause)
    assert await asyncio.to_thread(leased.wait, PROMPT)
    newer = hive.receive(most=1, holding=[])
    await asyncio.sleep(0)
    may_commit.set()
    await pausing
    assert (await older).deliveries == []
    assert [one.id for one in (await newer).deliveries] == ids[:1]
    assert await hive.received() == ids[1:]


async def test_an_agent_has_few_receives_at_once(hive: MessagingHive) -> None:
    """The ninth receive under way is refused with 429 `too_many_polls`; one that has ended makes room."""
    polls = [hive.receive(wait=LONG) for _ in range(MOST_POLLS)]
    await asyncio.sleep(0)
    with pytest.raises(HiveError) as refusal:
        await hive.receive()
    assert (refusal.value.code, refusal.value.status) == ("too_many_polls", 429)
    polls[0].cancel()
    await asyncio.wait([polls[0]])
    assert (await hive.receive()).deliveries == []
    for poll in polls:
        poll.cancel()
    await asyncio.wait(polls)


async def test_a_replaced_harness_ends_no_receive_of_the_new_one(hive: MessagingHive) -> None:
    """Who is not the agent's harness any more is refused before its receive counts."""
    await hive.broker.hello("ada", "instance-2")
    waiting = hive.receive(wait=LONG, holding=[], instance="instance-2")
    await asyncio.sleep(0)
    with pytest.raises(HiveError) as refusal:
        await hive.receive(holding=[])
    assert refusal.value.code == "superseded"
    (number,) = await hive.send("for the new one")
    async with asyncio.timeout(PROMPT):
        assert [one.id for one in (await waiting).deliveries] == [number]


async def test_a_waiting_receive_shares_the_commit_of_its_message(hive: MessagingHive) -> None:
    """A message for somebody who waits is stored and leased in one commit: the wait is not for the disk twice."""
    polling = await waiting(hive)
    before = hive.commits
    (number,) = await hive.send("wake up")
    assert [one.id for one in (await polling).deliveries] == [number]
    assert hive.commits == before + 1


async def test_a_waiting_receive_that_is_gone_loses_nothing(hive: MessagingHive) -> None:
    """Who hangs up while its message is on its way to the disk leaves that message to the next receive."""
    polling = await waiting(hive)
    sending = asyncio.create_task(hive.send("wake up"))
    while not hive.broker.unacknowledged("ada"):
        await asyncio.sleep(0)
    polling.cancel()
    (number,) = await sending
    assert [one.id for one in (await hive.receive(wait=PROMPT)).deliveries] == [number]
    assert polling.cancelled()


async def test_a_message_that_is_not_stored_wakes_nobody(hive: MessagingHive) -> None:
    """When the commit fails, the receive that queued up behind the message goes on waiting, and gets the next one."""
    polling = await waiting(hive)
    refuse = "CREATE TRIGGER no BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'no'); END"
    await hive.database.write(lambda db: db.execute(refuse).rowcount)
    with pytest.raises(sqlite3.IntegrityError):
        await hive.send("lost")
    await hive.database.write(lambda db: db.execute("DROP TRIGGER no").rowcount)
    assert not polling.done()
    (number,) = await hive.send("stored")
    async with asyncio.timeout(PROMPT):
        assert [one.id for one in (await polling).deliveries] == [number]


async def waiting(hive: MessagingHive) -> asyncio.Task[ReceiveAnswer]:
    """A receive that has found nothing and waits."""
    polling = hive.receive(wait=LONG)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not polling.done()
    return polling
