"""Leases: who holds a message, how much at once, and what a late request may still do."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine
from typing import Any

import pytest

from hive_core.errors import HiveError
from hive_core.messaging import leases
from hive_core.protocol import MAX_BODY_BYTES
from tests.unit.core.messaging.messaging_hive import FIRST, LEASE_SECONDS, MessagingHive

MEBIBYTE = 1024 * 1024


async def refusal(call: Coroutine[Any, Any, object]) -> str:
    with pytest.raises(HiveError) as refused:
        await call
    return refused.value.code


# --- acknowledging and renewing -----------------------------------------------------------------------------


async def test_a_repeated_acknowledgement_changes_nothing(hive: MessagingHive) -> None:
    """Asked again after a lost answer, ack says that it changed nothing, and that is no error."""
    ids = await hive.send("one", "two", "three")
    assert await hive.received() == ids
    assert await hive.acknowledge(ids[:2]) == ids[:2]
    assert await hive.acknowledge(ids[:2]) == []
    assert await hive.acknowledge(ids) == ids[2:]
    assert await hive.acknowledge(ids + ids) == []
    assert await hive.received(holding=[]) == []
    assert hive.broker.unacknowledged("ada") == 0


async def test_an_acknowledgement_is_for_all_of_its_ids_or_none(hive: MessagingHive) -> None:
    """One id that is not held, or not the caller's, refuses the whole request, and nothing is acknowledged."""
    held, released = await hive.send("one", "two")
    (others,) = await hive.send("to bob", to="bob", sender="ada")
    await hive.received()
    await hive.release([released])
    assert await refusal(hive.acknowledge([held, released])) == "lease_lost"
    assert await refusal(hive.acknowledge([held, others])) == "unknown_message"
    assert await hive.received(holding=[]) == [held, released]


async def test_a_lease_that_ran_out_may_still_be_acknowledged(hive: MessagingHive) -> None:
    """Work that took too long counts, as long as the message was not released or handed to another instance."""
    (number,) = await hive.send("slowly")
    await hive.received()
    hive.now += LEASE_SECONDS * 1_000 + 1
    assert await hive.acknowledge([number]) == [number]


async def test_renewing_keeps_what_is_held(hive: MessagingHive) -> None:
    """A renewed lease runs on from the renewal; what was acknowledged meanwhile is left out, and that is no error."""
    kept, done = await hive.send("one", "two")
    await hive.received()
    await hive.acknowledge([done])
    hive.now += (LEASE_SECONDS - 1) * 1_000
    assert await hive.renew([kept, done]) == [kept]
    assert await hive.renew() == [kept]
    hive.now += (LEASE_SECONDS - 1) * 1_000
    assert await hive.received() == []
    hive.now += 1_001
    assert await hive.received() == [kept]
    assert await hive.release() == [kept]
    assert await refusal(hive.renew([kept])) == "lease_lost"


# --- a harness that is replaced -----------------------------------------------------------------------------


async def test_a_hello_under_way_counts_before_it_is_answered(hive: MessagingHive) -> None:
    """Requests of the old harness that queue behind the new one's hello are refused, though it is not answered yet."""
    first, second = await hive.send("one", "two")
    assert await hive.received(most=1) == [first]
    hello = asyncio.create_task(hive.broker.hello("ada", "instance-2"))
    late = [
        hive.receive(holding=[]),
        hive.receive(),
        *(asyncio.create_task(call) for call in (hive.acknowledge([first]), hive.renew(), hive.release())),
    ]
    answers = await asyncio.gather(*late, return_exceptions=True)
    assert [getattr(answer, "code", answer) for answer in answers] == ["superseded"] * 5
    await hello
    given = await hive.receive(instance="instance-2")
    assert [(one.id, one.attempt) for one in given.deliveries] == [(first, 2), (second, 1)]


# --- callers that hang up -----------------------------------------------------------------------------------


async def test_taking_back_leaves_a_newer_lease_alone(hive: MessagingHive) -> None:
    """What a caller that hung up was to get is freed, unless it was leased again before that was noticed."""
    ids = await hive.send("one", "two")
    gone = hive.receive(wait=60.0)
    await asyncio.sleep(0)  # The lease is queued now.
    gone.cancel()
    again = hive.receive(most=1, holding=[])
    given = (await again).deliveries
    assert [(one.id, one.attempt) for one in given] == [(ids[0], 2)]
    # In the order of the writer: by now what the first receive was given is taken back.
    await hive.database.write(lambda db: None)
    assert await hive.acknowledge([ids[0]]) == [ids[0]]
    assert await hive.received() == [ids[1]]


async def test_a_hang_up_while_the_daemon_stops_is_no_error(hive: MessagingHive) -> None:
    """There is nobody left who could take a lease back then, and nothing is logged as a failure."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    await hive.send("one")
    gone = hive.receive(wait=60.0)
    await asyncio.sleep(0)
    hive.database.finish()
    gone.cancel()
    await hive.writing
    await asyncio.gather(gone, return_exceptions=True)
    await asyncio.sleep(0)
    assert failures == []


# --- how much at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "together"),
    [
        ("x" * MAX_BODY_BYTES, 3),
        ("\n" * (MAX_BODY_BYTES // 2), 3),
        ("é" * (MAX_BODY_BYTES // 2), 3),
        ("\x00" * MAX_BODY_BYTES, 1),
    ],
    ids=["ascii", "escaped", "two bytes", "control"],
)
async def test_an_answer_has_about_a_mebibyte_of_json(hive: MessagingHive, body: str, together: int) -> None:
    """Whatever the bodies are made of, an answer has at most 1 MiB of JSON or one message; the rest comes next."""
    ids = await hive.send(*[body] * 4)
    answer = await hive.receive()
    assert [one.id for one in answer.deliveries] == ids[:together]
    assert together == 1 or len(answer.model_dump_json().encode()) <= MEBIBYTE
    assert answer.waiting == 4 - together
    assert await hive.received(most=1) == [ids[together]]


async def test_an_instance_holds_at_most_a_thousand(hive: MessagingHive) -> None:
    """Beyond 1,000 leased messages a receive gives nothing new, until some of them are dealt with."""
    ids = await hive.send(*["x"] * (leases.MOST_HELD + 5))
    for start in range(0, leases.MOST_HELD, 100):
        assert await hive.received() == ids[start : start + 100]
    assert await hive.received() == []
    assert await hive.renew() == ids[: leases.MOST_HELD]
    await hive.acknowledge(ids[7:9])
    assert await hive.received() == ids[leases.MOST_HELD : leases.MOST_HELD + 2]


async def test_looking_for_messages_reads_no_bodies(hive: MessagingHive) -> None:
    """A receive that gives nothing does not read what is leased already: it would hold up every other write."""
    await hive.send(*["x" * 1_000] * 3)
    await hive.received()
    columns: set[tuple[str | None, str | None]] = set()

    def look(db: sqlite3.Connection) -> leases.Leased:
        def allow(action: int, table: str | None, column: str | None, *_: str | None) -> int:
            columns.add((table, column))
            return sqlite3.SQLITE_OK

        # A change of the authorizer has every statement prepared again, so that it sees what each of them reads.
        db.set_authorizer(allow)
        try:
            return leases.lease(
                db, recipient="ada", instance=FIRST, most=10, now=hive.now, until=hive.now + 1, holding=None
            )
        finally:
            db.set_authorizer(None)

    found = await hive.database.write(look)
    assert found == leases.Leased([], hive.now + LEASE_SECONDS * 1_000)
    assert ("deliveries", "leased_until") in columns
    assert "messages" not in {table for table, _ in columns}
