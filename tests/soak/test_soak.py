"""Everything at once, for an hour: nothing is lost, doubled, stuck or leaked.

HIVE_SOAK_MINUTES sets how long, HIVE_SOAK_AGENTS how many agents talk, HIVE_SOAK_SEED repeats a run, as far as the
machine's timing allows.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hive_core.infra.database import audit
from hive_core.settings import Budgets
from tests.helpers.fake_messages_api import Blocks, Text, model_server
from tests.helpers.real_daemon import Daemon, Json, running
from tests.integration.crash import invariants
from tests.integration.crash.consumer_processes import Consumers
from tests.integration.crash.invariants import Deliverable, Evidence, Stored
from tests.integration.crash.kill_schedule import schedule
from tests.integration.crash.load_generator import REPEATABLE, Load
from tests.integration.gate import consistency_check
from tests.soak import leaks
from tests.soak.disturbances import Kills, attack, fill_and_free, move_clock
from tests.soak.operations import SHORTAGES, Operator
from tests.soak.places import Clock, Disk, small_disk
from tests.soak.population import CHANGED, CLIS, HOSTILE, LINKS, SINKS, Population, why_no_claude
from tests.soak.record import Record, say

MINUTES = float(os.environ.get("HIVE_SOAK_MINUTES", "60"))
AGENTS = int(os.environ.get("HIVE_SOAK_AGENTS", "100"))
UP_SECONDS = 300.0
"""Longest time in which all harnesses must have reported in after a start."""
DRAIN_SECONDS = 300.0
SPAWNED_AT_ONCE = 8
CLI_SPARED_SECONDS = 60.0
"""Time in which the CLI of one agent is killed at most once, so that some of its turns succeed."""
REFUSALS = REPEATABLE | SHORTAGES | {"sending_too_fast", "too_many_waiting"}
UNLIMITED = {"loop_messages_per_minute": 10**12}
"""Agents of a chain only answer each other's messages."""


class Soak:
    """One hive, all who use it, and all who disturb it."""

    def __init__(self, home: Path, disk: Disk, clock: Clock, environment: dict[str, str], seed: str) -> None:
        self.record = Record()
        self.disk, self.clock, self.seed = disk, clock, seed
        self.dice = random.Random(seed)
        problem = why_no_claude(str(Path(sys.executable).parent))
        self.population = Population(AGENTS // LINKS, has_clis=not problem)
        settings = {
            "sandbox": "auto",
            "budgets": json.dumps({**Budgets().model_dump(), **UNLIMITED}),
            "pass_environment": ",".join(environment),
            "health_timeout": 60,
        }
        self.daemon = Daemon(
            home, settings=settings, environment={**environment, **clock.environment}, state_dir=disk.path / "s"
        )
        self.consumers = Consumers(home, seed, sorted(SHORTAGES))
        self.kills = Kills(self.daemon, self.consumers, disk, self.record)
        self.operator = Operator(self.daemon, self.record, self.dice, CHANGED)
        self.cli_killed: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        for kind, why in (("disk full", disk.problem), ("clock", clock.problem), ("kill agent CLI", problem)):
            if why:
                self.record.left_out[kind] = why

    def load(self) -> Load:
        """Return the senders, and the operator who reads."""
        places: dict[str | None, Path] = {None: self.daemon.host_socket}
        places |= {name: self.daemon.core_socket(name) for name in SINKS}
        return Load(self.population.senders(), places, self.seed, REFUSALS)

    async def populate(self) -> None:
        """Spawn all agents and wait until they are up."""
        for name in (*SINKS, *HOSTILE):
            await self.daemon.spawn(name, start=False)
        for name in SINKS:
            self.consumers.start(name, self.daemon.core_socket(name))
        turns = asyncio.Semaphore(SPAWNED_AT_ONCE)

        async def spawn(name: str, config: Json) -> None:
            async with turns:  # The model of some is on the loopback of this host.
                await self.daemon.ask("POST", "/v1/agents", {"name": name, "config": {"network": "host", **config}})

        async with asyncio.TaskGroup() as tasks:
            for name, config in self.population.configs():
                tasks.create_task(spawn(name, config))
        await self.up()
        self.record.began = time.monotonic()

    async def up(self) -> None:
        """Wait until the harnesses of all agents have reported in; one that does not is a fault."""
        deadline = time.monotonic() + UP_SECONDS
        while True:
            agents = await self.daemon.agents()
            down = [
                f"{agents[name]['lifecycle']} and {agents[name]['state']} ({agents[name]['detail']})"
                for name in (*self.population.names, *CHANGED)
                if (agents[name]["state"] not in ("idle", "thinking") or agents[name]["lifecycle"] != "running")
                and name not in self.operator.stopped  # A start was refused, as on a full disk.
            ]
            if not down:
                return
            if time.monotonic() > deadline:
                self.record.fault(f"not up after {UP_SECONDS:.0f} s: {dict(Counter(down).most_common(5))}")
                return
            await asyncio.sleep(0.5)

    @asynccontextmanager
    async def disturbed(self) -> AsyncIterator[None]:
        """Disturb the hive within the block, in all ways."""
        choose = partial(random.Random, f"{self.seed} {len(self._tasks)}")
        work = [
            self._kill(),
            self.kills.watch(),
            *(attack(self.daemon, name, self.record, choose()) for name in HOSTILE),
        ]
        if not self.disk.problem:
            work.append(fill_and_free(self.disk, self.record, random.Random(f"{self.seed} disk")))
        if not self.clock.problem:
            work.append(move_clock(self.clock, self.record, random.Random(f"{self.seed} clock")))
        if self.population.has_clis:
            work.append(self._repeat(self._kill_cli, 4))
        operator = self.operator
        stop = partial(operator.stop, self.population.names)
        for act, seconds in (
            (operator.change, 1.5),
            (operator.decide, 1.0),
            (operator.roll_back, 6.0),
            (operator.spawn, 5.0),
            (operator.destroy, 5.0),
            (stop, 3.0),
            (operator.look, 1.0),
        ):
            work.append(self._repeat(act, seconds))
        self._tasks = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            await self._end_tasks()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                self.record.fault(f"the soak itself failed: {ended!r:.300}")
        self.disk.free()
        self.clock.set(0)
        # The last kill: a start that was under way may be anywhere.
        await self.daemon.kill()
        await self.kills.start()

    async def _repeat(self, act: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Do something again and again, on average every `seconds`."""
        while True:
            await asyncio.sleep(self.dice.uniform(0, 2 * seconds))
            await act()

    async def _kill_cli(self) -> None:
        """Kill a CLI that had time for a turn since its last kill, as an agent whose turns all fail is paused."""
        ready = [name for name in CLIS if time.monotonic() - self.cli_killed.get(name, 0.0) > CLI_SPARED_SECONDS]
        if ready:
            name = self.dice.choice(ready)
            self.cli_killed[name] = time.monotonic()
            await self.kills.kill_process("kill agent CLI", name, "stream-json")

    async def _kill(self) -> None:
        """Kill again and again; after each dozen let all agents come up, so that messages get through."""
        for number in range(10**6):
            for kill in schedule(f"{self.seed} {number}", 1):
                await asyncio.sleep(self.dice.uniform(0, 20))
                await self.kills.carry_out(kill, (*self.population.names, *CHANGED), SINKS)
            with suppress(Exception):
                began = time.monotonic()
                await self.up()
                self.record.took("all up again", time.monotonic() - began)

    async def drained(self, load: Load) -> None:
        """Wait until nobody has anything left to do; a fault if for `DRAIN_SECONDS` nothing becomes less."""
        deadline, least = time.monotonic() + DRAIN_SECONDS, sys.maxsize
        served = {*self.population.names, *CHANGED, *SINKS}
        while True:
            load.check()
            agents = await self.daemon.agents()
            unread = (await self.daemon.ask("GET", "/v1/messages?limit=1000"))["messages"]
            left = {name: agents[name]["unacked"] for name in served if agents[name]["unacked"]}
            if not left and not unread:
                return
            if (waiting := sum(left.values()) + len(unread)) < least:
                deadline, least = time.monotonic() + DRAIN_SECONDS, waiting
            for name in left:
                if "for the operator" in agents[name]["detail"]:
                    await self._retry_held(name)
            if time.monotonic() > deadline:
                states = {
                    name: (agents[name]["lifecycle"], agents[name]["state"], agents[name]["detail"]) for name in left
                }
                self.record.fault(f"messages wait for ever: {left}, {len(unread)} unread, {states}")
                return
            await asyncio.sleep(0.5)

    async def _retry_held(self, name: str) -> None:
        """Retry, as the operator, the turns of an agent that were interrupted too often to be retried by themselves."""
        # The list of turns shows the newest only, and these may be long ago.
        for turn in (await self.daemon.ask("GET", f"/v1/agents/{name}/control"))["held"]:
            await self.daemon.ask("POST", f"/v1/agents/{name}/control/retry", {"turn": turn["id"]})
            self.record.did("retry a held turn", "done")

    def check_log(self) -> None:
        """Report what the daemons wrote that is no line of their log, and their own failures."""
        for line in self.daemon.log_text().splitlines():
            if line.startswith("hive-c0re: the disk is full: "):
                self.record.did("start of the daemon", "refused: the disk is full")
                continue
            if not line.startswith("{"):
                self.record.fault(f"the daemon wrote: {line[:200]}")
                continue
            entry = json.loads(line)
            if "exception" in entry:
                last = entry["exception"].strip().splitlines()[-1]
                self.record.fault(f"the log has {entry['event']!r} with {last[:200]}")

    def check_promises(self, load: Load) -> None:
        """Report what was lost or doubled."""
        daemon = self.daemon
        rows = daemon.sql("SELECT message, recipient, acknowledged_at FROM deliveries")
        evidence = Evidence(
            accepted=load.sent.accepted,
            repeated=frozenset(load.sent.repeated),
            stored=[
                Stored(*row)
                for row in daemon.sql("SELECT id, sender, body FROM messages")
                if row[1] not in ("system", *HOSTILE, *CLIS)
            ],
            deliveries=[Deliverable(*row) for row in rows],
            logs=self.consumers.logs(),
            same_clock=bool(self.clock.problem),
        )
        found = invariants.problems(evidence)
        for chain in range(self.population.chains):
            arrived = [
                load.read[number] for number in sorted(load.read) if load.read[number].startswith(f"chain{chain}:")
            ]
            found += [
                f"chain {chain}: {each}" for each in invariants.in_sequence(arrived, load.sent.bodies(f"chain{chain}"))
            ]
        found += [
            f"message {number} was marked as read twice" for number, count in Counter(load.marked).items() if count > 1
        ]
        for problem in found[:20]:
            self.record.fault(problem)

    def check_database(self) -> None:
        """Report a damaged database or audit chain; the daemon has ended."""
        if (said := self.daemon.sql("PRAGMA integrity_check")) != [("ok",)]:
            self.record.fault(f"the database is damaged: {said}")
        with sqlite3.connect(self.daemon.database) as connection:
            broken = audit.first_broken_row(connection)
        connection.close()
        if broken is not None:
            self.record.fault(f"the audit chain is broken at row {broken}")


async def _answer_later(_request: dict[str, Any]) -> Blocks:
    """Play a model that takes its time, so that its CLI is killed in the middle of turns."""
    await asyncio.sleep(random.uniform(0, 3))
    return [Text("done")]


async def _tell(soak: Soak) -> None:
    while True:
        await asyncio.sleep(60)
        say(soak.record.progress())


async def _run(soak: Soak) -> None:
    """Run the soak from its first agent to its last check."""
    daemon, record = soak.daemon, soak.record
    telling = asyncio.create_task(_tell(soak))
    try:
        await soak.populate()
        say(f"{record.minutes:.1f} min: {len(soak.population.names) + len(CHANGED)} agents are up")
        async with soak.load().running() as load:
            await asyncio.sleep(10)  # So that the daemon and the harnesses hold what they need for messages.
            pids = [agent["pid"] for agent in (await daemon.agents()).values() if agent["pid"]]
            before = leaks.holdings(daemon, pids)
            async with soak.disturbed():
                while record.minutes < MINUTES:
                    await asyncio.sleep(1)
                    load.check()
            say(f"{record.minutes:.1f} min: the disturbances have ended")
            await soak.operator.calm()
            await soak.up()
            try:
                await load.stop(DRAIN_SECONDS)
            except TimeoutError:
                record.fault(f"sends were not answered within {DRAIN_SECONDS:.0f} s")
            await soak.drained(load)
        await soak.consumers.stop()
        soak.check_promises(load)
        record.did("message", f"{len(load.sent.accepted)} heard ok, {load.sent.unanswered} not answered")
        for problem in await consistency_check.problems(daemon, _no_active_check):
            record.fault(problem)
        agents = await daemon.agents()
        after = leaks.holdings(daemon, [agent["pid"] for agent in agents.values() if agent["pid"]])
        for problem in [
            *leaks.growth(before, after),
            *leaks.left_over(daemon, set(agents), soak.operator.passing - set(agents)),
        ]:
            record.fault(problem)
        if (code := await daemon.terminate(120)) != 0:
            record.fault(f"the daemon ended with exit code {code}")
        await daemon.orphans_gone(20)
        for problem in leaks.strays(daemon.home):
            record.fault(problem)
        soak.check_database()
        soak.check_log()
    finally:
        telling.cancel()


def _no_active_check(*_: object) -> Iterator[str]:
    """Check nothing: harnesses in sandboxes have other paths than the daemon."""
    return iter(())


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_everything_at_once(hive_home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Kills, a full disk, clock jumps and hostile clients while agents talk and change: nothing lost or leaked."""
    seed = os.environ.get("HIVE_SOAK_SEED") or str(random.randrange(10**9))
    with capfd.disabled():
        say(f"HIVE_SOAK_SEED={seed}, {MINUTES:g} minutes, {AGENTS} agents that talk")
        async with model_server(_answer_later) as model:
            model.kept = 1
            environment = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "test"}
            with small_disk(hive_home / "d") as disk:
                soak = Soak(hive_home, disk, Clock(hive_home), environment, seed)
                try:
                    async with running(soak.daemon):
                        await _run(soak)
                finally:
                    soak.consumers.close()
                    say(f"HIVE_SOAK_SEED={seed}\n{soak.record.table()}")
                    if soak.record.faults:
                        kept = Path(tempfile.gettempdir(), f"hive-soak-{seed}.log")
                        shutil.copyfile(soak.daemon.log, kept)
                        say(f"the log of the daemons is kept in {kept}")
    assert soak.record.faults == {}
