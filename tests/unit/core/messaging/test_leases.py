"""Leases: who holds a message, how much at once, and what a late request may still do."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from pydantic import ValidationError

from hive_core.errors import HiveError
from hive_core.infra.database.connection import Operation
from hive_core.messaging import leases
from hive_core.messaging.fairness.loops import LONGEST_DELAY
from hive_core.protocol import MAX_BODY_BYTES, MAX_LEASED, AckRequest, LeaseRequest, ReceiveRequest
from tests.unit.core.messaging.messaging_hive import FIRST, LEASE_SECONDS, MessagingHive

MEBIBYTE = 1024 * 1024
T = TypeVar("T")


async def columns_read(hive: MessagingHive, operation: Operation[T]) -> tuple[T, set[tuple[str | None, str | None]]]:
    """Carry out an operation; returns its result, and the columns that its statements use, as (table, column)."""
    columns: set[tuple[str | None, str | None]] = set()

    def watched(db: sqlite3.Connection) -> T:
        def allow(action: int, table: str | None, column: str | None, *_: str | None) -> int:
            columns.add((table, column))
            return sqlite3.SQLITE_OK

        # A change of the authorizer has every statement prepared again, so that it sees what each of them reads.
        db.set_authorizer(allow)
        try:
            return operation(db)
        finally:
            db.set_authorizer(None)

    return await hive.database.write(watched), columns


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


async def test_a_clock_that_is_set_back_makes_no_lease_longer(hive: MessagingHive) -> None:
    """Leases and renewed leases end in time, although the host's clock was set back by a day."""
    (number,) = await hive.send("soon")
    assert await hive.received() == [number]
    hive.set_back = 86_400_000
    hive.now += LEASE_SECONDS * 1_000 + 1
    assert await hive.received() == [number]
    assert await hive.renew() == [number]
    hive.now += LEASE_SECONDS * 1_000 - 1
    assert await hive.received() == []
    hive.now += 2
    assert await hive.received() == [number]


async def test_leases_of_a_clock_that_was_ahead_are_cut_at_the_start(hive: MessagingHive) -> None:
    """The clock was set back while no daemon ran: leases end after a lease time, and delays after the longest one."""
    held, delayed = await hive.send("held", "delayed")
    await hive.received()
    await hive.release([delayed])
    ahead = hive.now + 86_400_000
    await hive.database.write(
        lambda db: db.execute("UPDATE deliveries SET leased_until = ? WHERE acknowledged_at IS NULL", (ahead,)).rowcount
    )
    hive.inbox_limit(10_000)
    await hive.broker.open()
    hive.now += LEASE_SECONDS * 1_000 + 1
    assert await hive.received() == [held]
    hive.now += int(LONGEST_DELAY * 1_000)
    assert delayed in await hive.received()


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
        ("\n" * (MAX_BODY_BYTES // 2 - 1) + "x", 3),
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

    def look(db: sqlite3.Connection) -> leases.Leased:
        return leases.lease(
            db, recipient="ada", instance=FIRST, most=10, now=hive.now, until=hive.now + 1, holding=None
        )

    found, columns = await columns_read(hive, look)
    assert found == leases.Leased([], hive.now + LEASE_SECONDS * 1_000)
    assert ("deliveries", "leased_until") in columns
    assert "messages" not in {table for table, _ in columns}


async def test_asking_again_reads_no_bodies(hive: MessagingHive) -> None:
    """Neither a renewal nor a repeated ack reads messages, because a harness may ask for either without end."""
    ids = await hive.send(*["x" * 1_000] * 3)
    await hive.received()
    await hive.acknowledge(ids[:1])
    until = hive.now + 1
    for call, expected in (
        (lambda db: leases.renew(db, "ada", FIRST, ids, until), ids[1:]),
        (lambda db: leases.renew(db, "ada", FIRST, None, until), ids[1:]),
        (lambda db: leases.acknowledge(db, "ada", FIRST, ids[:1], until), []),
    ):
        found, columns = await columns_read(hive, call)
        assert found == expected
        assert ("deliveries", "acknowledged_at") in columns
        assert "messages" not in {table for table, _ in columns}


@pytest.mark.parametrize("ask", ["acknowledge", "renew", "release"])
async def test_many_ids_are_a_few_statements(hive: MessagingHive, ask: str) -> None:
    """The cost of a request for the writer does not grow by a statement for each of its ids."""
    ids = await hive.send(*["x"] * 100)
    await hive.received()
    statements: list[str] = []
    await hive.database.write(lambda db: db.set_trace_callback(statements.append))
    assert await getattr(hive, ask)(ids) == ids
    assert await hive.acknowledge([]) == []
    await hive.database.write(lambda db: db.set_trace_callback(None))
    assert len(statements) < 30


async def test_a_request_names_as_many_ids_as_can_be_held() -> None:
    """A longer list can only name what is not held, and is refused before it is looked up."""
    held = list(range(1, MAX_LEASED + 1))
    for ids in (held, [*held, MAX_LEASED + 1]):
        for model, field in ((AckRequest, "ids"), (LeaseRequest, "ids"), (ReceiveRequest, "holding")):
            try:
                model.model_validate({"instance": FIRST, field: ids})
            except ValidationError:
                assert len(ids) > MAX_LEASED
            else:
                assert len(ids) == MAX_LEASED


async def test_a_harness_has_a_few_requests_in_the_writer(hive: MessagingHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a harness that asks for much at once, the rest waits in order, and another agent's requests do not."""
    await hive.broker.hello("bob", "instance-bob")
    ids = await hive.send(*["x"] * 20)
    (others,) = await hive.send("for bob", to="bob", sender="ada")
    await hive.received()
    request = ReceiveRequest(instance="instance-bob")
    assert [one.id for one in (await hive.broker.receive("bob", request)).deliveries] == [others]
    write, under_way, most = hive.database.write, 0, 0

    async def counted(operation: Operation[T]) -> T:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await write(operation)
        finally:
            under_way -= 1

    monkeypatch.setattr(hive.database, "write", counted)
    ended: list[list[int]] = []

    async def end(call: Coroutine[Any, Any, list[int]]) -> None:
        ended.append(await call)

    async def acknowledge_of_bob() -> list[int]:
        return (await hive.broker.acknowledge("bob", "instance-bob", [others])).ids

    waiting = [end(hive.acknowledge([number])) for number in ids[:10]] + [end(hive.renew([n])) for n in ids[10:]]
    await asyncio.gather(*waiting, end(acknowledge_of_bob()))
    assert most == 5
    assert ended.index([others]) <= 5
    assert [one for one in ended if one != [others]] == [[number] for number in ids]
