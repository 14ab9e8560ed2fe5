"""Under a load of proposals, decisions and rollbacks, daemon and harnesses are killed at any moment.

HIVE_CRASH_SEED repeats a schedule of kills, as far as the machine's timing allows.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.helpers.real_daemon import Json
from tests.integration.gate.crashing_daemon import BROKEN, GOOD, CrashingDaemon, Gone, mortal

RESTING = ("ada", "bob")
RUNNING = ("cid", "dan")
AGENTS = (*RESTING, *RUNNING)
DRAIN_SECONDS = 120.0


class Load:
    """Proposers, deciders and the operator, who go on while the daemon comes and goes."""

    def __init__(self, hive: CrashingDaemon, seed: str) -> None:
        self._hive = hive
        self._dice = random.Random(seed)
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.answers: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """Under load within the block."""
        work = [*(self._propose(name) for name in AGENTS), self._decide("hm1nd"), self._decide(None), self._roll_back()]
        self._tasks = [asyncio.create_task(one) for one in [*work, self._spawn_and_destroy()]]
        try:
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        """Raise what somebody has failed with."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def stop(self) -> None:
        """Nobody begins anything new; what was asked is answered."""
        self._stop.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    async def _ask(self, method: str, path: str, body: object = None, *, agent: str | None = None) -> Json | None:
        """An answer, or None after a refusal or a death, which belong to this life. The daemon's own errors do not."""
        try:
            status, answer = await self._hive.request(method, path, body, agent=agent)
        except Gone:
            self.answers["gone"] += 1
            await self._pause(0.1)
            return None
        code = "ok" if status == 200 else answer["error"]["code"]
        self.answers[code] += 1
        assert status < 500 or code == "stopping", answer
        return answer if status == 200 else None

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds * 2 * self._dice.random()):
                await self._stop.wait()

    async def _propose(self, agent: str) -> None:
        """One change after another, some of which do not build; now and then one is taken back."""
        while not self._stop.is_set():
            files = BROKEN if self._dice.random() < 0.15 else GOOD
            commit = await asyncio.to_thread(self._hive.commit, agent, files)
            made = await self._ask("POST", "/v1/proposals", {"commit": commit, "note": "a change"}, agent=agent)
            if made is not None and self._dice.random() < 0.15:
                await self._pause(0.3)
                await self._ask("POST", f"/v1/proposals/{agent}/{made['number']}/withdraw", {}, agent=agent)
            await self._pause(0.3)

    async def _decide(self, agent: str | None) -> None:
        """As the manager or the operator: approve most of what waits, deny the rest."""
        while not self._stop.is_set():
            listed = await self._ask("GET", "/v1/proposals", agent=agent)
            for found in listed["proposals"] if listed else []:
                mine = found["waits_for"] == ("operator" if agent is None else "manager")
                if found["state"] == "built" and mine:
                    await self._decide_on(found, agent)
            await self._pause(0.1)

    async def _decide_on(self, found: Json, agent: str | None) -> None:
        verb = "deny" if self._dice.random() < 0.25 else "approve"
        body = {"expect": "built", "note": "seen"}
        await self._ask("POST", f"/v1/proposals/{found['agent']}/{found['number']}/{verb}", body, agent=agent)

    async def _roll_back(self) -> None:
        while not self._stop.is_set():
            agent = self._dice.choice(AGENTS)
            await self._ask("POST", f"/v1/agents/{agent}/rollback", {"note": "back"})
            await self._pause(0.8)

    async def _spawn_and_destroy(self) -> None:
        """The manager asks for an agent, and then for its end; the operator ends some at once."""
        while not self._stop.is_set():
            note = {"note": "for now"}
            await self._ask("POST", "/v1/agents", {"name": "eve", "start": False, **note}, agent="hm1nd")
            await self._pause(1)
            if self._dice.random() < 0.5:
                body = {"purge": self._dice.random() < 0.3, **note}
                await self._ask("POST", "/v1/agents/eve/destroy", body, agent="hm1nd")
            else:
                await self._ask("POST", "/v1/agents/eve/destroy", {"purge": self._dice.random() < 0.3})
            await self._pause(1)


async def _kill_daemon(hive: CrashingDaemon) -> None:
    """SIGKILL; the next one starts at once, and may be killed before it is ready."""
    for child in psutil.Process(hive.daemon.pid).children():
        with suppress(psutil.NoSuchProcess):
            os.kill(child.pid, signal.SIGKILL)


async def _kill_harness(hive: CrashingDaemon, dice: random.Random) -> None:
    with suppress(psutil.NoSuchProcess, IndexError):
        harnesses = [child for daemon in psutil.Process(hive.daemon.pid).children() for child in daemon.children()]
        process = dice.choice([child for child in harnesses if "serve" in child.cmdline()])
        process.kill()


async def _settled(hive: CrashingDaemon) -> None:
    """Wait until nothing is under way; what waits for a decision is denied."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        await hive.ask("GET", "/v1/audit/verify")
        opened = (await hive.ask("GET", "/v1/proposals"))["proposals"]
        if not opened:
            return
        for found in opened:
            if found["state"] == "built":
                path = f"/v1/proposals/{found['agent']}/{found['number']}/deny"
                await hive.request("POST", path, {"expect": "built", "note": "enough"})
        assert time.monotonic() < deadline, opened
        await asyncio.sleep(0.05)


async def _survive(home: Path, kills: int) -> None:
    seed = os.environ.get("HIVE_CRASH_SEED") or str(random.randrange(10**9))
    print(f"HIVE_CRASH_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    dice = random.Random(seed)
    began = time.monotonic()
    settings = {"approval": '{"config": "both"}', "health_timeout": 5, "stop_timeout": 2}
    async with mortal(home, **settings) as hive:
        for name in AGENTS:
            await hive.daemon.spawn(name, start=name in RUNNING)
        async with Load(hive, seed).running() as load:
            for number in range(kills):
                # Long enough for something to begin; every fourth comes while the last death is recovered from.
                await asyncio.sleep(dice.uniform(0, 2 if number % 4 else 0.3))
                await (_kill_daemon(hive) if dice.random() < 0.75 else _kill_harness(hive, dice))
                load.check()
            await load.stop()
            await hive.through(lambda: _settled(hive))
        await hive.check()
        await hive.check_with_the_command()
        assert hive.daemon.log_entries("request failed") == []
        states = dict(hive.daemon.sql("SELECT state, count(*) FROM proposals GROUP BY state"))
        told = f"{states}, answers {dict(load.answers)}, {time.monotonic() - began:.0f} s"
        print(f"{kills} kills: {told}")  # noqa: T201
        assert {"deployed", "denied", "failed", "withdrawn"} <= states.keys()


@pytest.mark.soak
@pytest.mark.timeout(1_800)
async def test_hundreds_of_random_kills(hive_home: Path) -> None:
    """At the end: one terminal tag each; `main`, what runs, index and audit table agree with the tags."""
    await _survive(hive_home, 320)
