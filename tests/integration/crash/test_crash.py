"""Killed at any moment, the hive loses nothing, doubles nothing and keeps the order.

HIVE_CRASH_SEED repeats a schedule of kills, as far as the machine's timing allows.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from hive_core.infra.database import audit
from hive_core.settings import Budgets
from tests.helpers.real_daemon import Daemon, Json, running
from tests.integration.crash import invariants
from tests.integration.crash.consumer_processes import Consumers
from tests.integration.crash.invariants import Deliverable, Evidence, Stored
from tests.integration.crash.kill_schedule import Killer, schedule
from tests.integration.crash.load_generator import Load, LoadSender

CHAIN = ("ann", "bob")
"""Real harnesses: what the operator sends to ann goes on to bob, and from there back to the operator."""
SINKS = ("sink1", "sink2")
"""Agents for whom the test's own consumers speak."""
SENDERS = [
    LoadSender("chain", None, "ann", keyed=True, pause=0.05),
    *[LoadSender(f"many{number}", None, "sink1", keyed=True, pause=0.02) for number in range(4)],
    *[LoadSender(f"loose{number}", None, "sink2", keyed=False, pause=0.02) for number in range(4)],
    LoadSender("there", "sink1", "sink2", keyed=True, pause=0.01),
    LoadSender("back", "sink2", "sink1", keyed=False, pause=0.01),
    LoadSender("all", "sink2", "*", keyed=True, pause=0.1),
]
DRAIN_SECONDS = 60.0


def _script(sender: str, to: str) -> list[Json]:
    return [{"match": "^all:"}, {"sender": sender, "match": "^chain:", "send": [{"to": to, "text": "{body}"}]}]


async def _populate(daemon: Daemon, consumers: Consumers) -> None:
    await daemon.spawn("ann", script=_script("operator", "bob"))
    await daemon.spawn("bob", script=_script("ann", "operator"))
    for name in SINKS:
        await daemon.spawn(name, start=False)
        consumers.start(name, daemon.core_socket(name))


async def _drained(daemon: Daemon, load: Load) -> None:
    """Wait until nobody has anything left to do."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while (status := await daemon.ask("GET", "/v1/status"))["messages_unacked"]:
        load.check()
        assert time.monotonic() < deadline, f"after {DRAIN_SECONDS} s without load still {status}"
        await asyncio.sleep(0.05)


async def _check_counters(daemon: Daemon) -> None:
    """The daemon's counts of unacknowledged messages are the table's, with some of them not zero."""
    for _ in range(3):
        await daemon.ask("POST", "/v1/messages", {"to": "sink1", "body": "left over"})
    query = "SELECT recipient, count(*) FROM deliveries WHERE acknowledged_at IS NULL GROUP BY recipient"
    table = dict(daemon.sql(query))
    counted = {name: agent["unacked"] for name, agent in (await daemon.agents()).items()}
    assert counted == {"ann": 0, "bob": 0, "sink1": 3, "sink2": 0}
    assert {name: count for name, count in counted.items() if count} == table


def _check_database(daemon: Daemon) -> None:
    assert daemon.sql("PRAGMA integrity_check") == [("ok",)]
    with sqlite3.connect(daemon.database) as connection:
        broken = audit.first_broken_row(connection)
    connection.close()
    assert broken is None, f"the audit chain is broken at row {broken}"


def _check_promises(daemon: Daemon, load: Load, consumers: Consumers) -> None:
    rows = daemon.sql("SELECT message, recipient, acknowledged_at FROM deliveries")
    evidence = Evidence(
        accepted=load.sent.accepted,
        repeated=frozenset(load.sent.repeated),
        stored=[Stored(*row) for row in daemon.sql("SELECT id, sender, body FROM messages WHERE sender != 'system'")],
        deliveries=[Deliverable(*row) for row in rows],
        logs=consumers.logs(),
    )
    assert invariants.problems(evidence)[:20] == []
    arrived = [load.read[number] for number in sorted(load.read) if load.read[number].startswith("chain:")]
    assert list(invariants.in_sequence(arrived, load.sent.bodies("chain"))) == []
    assert [number for number, count in Counter(load.marked).items() if count > 1] == [], "read twice"


async def _survive(home: Path, dozens: int, sandbox: str) -> None:
    seed = os.environ.get("HIVE_CRASH_SEED") or str(random.randrange(10**9))
    print(f"HIVE_CRASH_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    began = time.monotonic()
    consumers = Consumers(home, seed)
    unlimited = json.dumps(dict.fromkeys(Budgets.model_fields, 10**12))
    async with running(Daemon(home, settings={"sandbox": sandbox, "budgets": unlimited})) as daemon:
        try:
            await _populate(daemon, consumers)
            places: dict[str | None, Path] = {
                None: daemon.host_socket,
                **{name: daemon.core_socket(name) for name in SINKS},
            }
            async with Load(SENDERS, places, seed).running() as load:
                killer = Killer(daemon, consumers, CHAIN, SINKS)
                for kill in schedule(seed, dozens):
                    await killer.carry_out(kill)
                    load.check()
                await load.stop()
                await _drained(daemon, load)
            await consumers.stop()
        finally:
            consumers.close()
        _check_promises(daemon, load, consumers)
        await _check_counters(daemon)
        assert await daemon.terminate() == 0
        await daemon.orphans_gone(20)
        _check_database(daemon)
        print(  # noqa: T201
            f"{killer.done} kills, {len(load.sent.accepted)} sends heard ok, {load.sent.unanswered} were not answered, "
            f"{len(load.sent.bodies('chain'))} through the chain, {time.monotonic() - began:.0f} s"
        )


@pytest.mark.timeout(180)
async def test_a_dozen_kills_lose_nothing(hive_home: Path) -> None:
    """Daemon, harnesses and consumers killed under load: all is delivered, acknowledged once, in order."""
    await _survive(hive_home, dozens=1, sandbox="none")


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("sandbox", ["none", "auto"])
async def test_hundreds_of_kills_lose_nothing(hive_home: Path, sandbox: str) -> None:
    """The same with 240 kills in a row on one hive, for harnesses as plain processes and in sandboxes."""
    await _survive(hive_home, dozens=20, sandbox=sandbox)
