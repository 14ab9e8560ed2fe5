"""The rounds that `containers` has run in the systemd host: `python -m tests.benchmarks.containers_in_host RESULT`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from hive_core.infra.systemd.bus import SystemBus
from hive_core.infra.systemd.units import UnitProperties
from tests.benchmarks.bench_directory import say
from tests.helpers.real_daemon import Json
from tests.system.host_hive import SETTINGS, HostHive, closure_of, invocation, program, service, set_up

ROUNDS = 7
_AGENT = "ada"
_PATIENCE = 60.0
_INSTANCE = "benchmark-1"
_POLL: Json = {"instance": _INSTANCE, "wait_seconds": 60.0}

Samples = defaultdict[str, list[float]]
"""Seconds, by what was measured."""


class Units:
    """When containers' units were first in each of their states, by this process's clock, as systemd tells it."""

    def __init__(self) -> None:
        self._seen: dict[UnitProperties, float] = {}
        self._news = asyncio.Condition()

    async def follow(self, states: AsyncIterator[UnitProperties]) -> None:
        """Take what is told, until that ends."""
        async for state in states:
            async with self._news:
                self._seen.setdefault(state, time.perf_counter())
                self._news.notify_all()

    async def when(self, agent: str, since: float, condition: Callable[[UnitProperties], bool]) -> float:
        """Wait until the agent's container has been so after `since`; when that was first."""
        unit = service(agent)
        async with asyncio.timeout(_PATIENCE), self._news:
            while True:
                for state, seen in self._seen.items():
                    if state.name == unit and seen > since and condition(state):
                        return seen
                await self._news.wait()


async def measure() -> Samples:
    """The first round of each kind is not counted: later ones find what it has loaded."""
    set_up(SETTINGS)
    bus, units = await SystemBus.open(), Units()
    following = asyncio.create_task(units.follow(bus.watch("container@")))
    hive = HostHive(Path(tempfile.mkdtemp(prefix="hb")))
    found: Samples = defaultdict(list)
    try:
        await hive.start()
        await _change(hive, units, found)
        await _crash(hive, units, bus, found)
    finally:
        await hive.close()
        await bus.close()
        await following
    return found


async def _change(hive: HostHive, units: Units, found: Samples) -> None:
    """Approvals and rollbacks of one agent, each beside a plain restart of what it replaces."""
    await hive.spawn_with(_AGENT)
    for number in range(ROUNDS + 1):
        built = await hive.propose(_AGENT, f"change {number}", prompt_md=f"You are {_AGENT}, of kind {number}.\n")
        before, taken = closure_of(_AGENT), {}
        taken["beside approval"] = await _plain_restart(hive)
        taken["approval"], _ = await _until_up(units, hive.approve(built))
        assert (await hive.ended(built))["state"] == "deployed"
        assert closure_of(_AGENT) == built["closure"] != before
        taken["beside rollback"] = await _plain_restart(hive)
        asked = hive.ask("POST", f"/v1/agents/{_AGENT}/rollback", {"note": "as it was"})
        taken["rollback"], rolled_back = await _until_up(units, asked)
        assert (await hive.ended(rolled_back))["state"] == "deployed"
        assert closure_of(_AGENT) == before
        _note(found, taken, number)
    await hive.ask("POST", f"/v1/agents/{_AGENT}/stop", {})


async def _plain_restart(hive: HostHive) -> float:
    """As somebody would do it by hand, without the hive."""
    await hive.idle(_AGENT)
    started = time.perf_counter()
    await program("systemctl", "stop", service(_AGENT))
    await program("systemctl", "start", service(_AGENT))
    seconds = time.perf_counter() - started
    await hive.idle(_AGENT)
    return seconds


async def _until_up(units: Units, asking: Awaitable[Json]) -> tuple[float, Json]:
    """From the request until systemd says that the container is up again; and the request's answer."""
    before, started = invocation(_AGENT), time.perf_counter()
    answer = await asking
    up = await units.when(_AGENT, started, lambda state: state.active == "active" and state.invocation != before)
    return up - started, answer


async def _crash(hive: HostHive, units: Units, bus: SystemBus, found: Samples) -> None:
    """Crashes of as many agents: of one agent, a second one would not be told of at once."""
    await hive.ask("POST", "/v1/agents", {"name": "hm1nd", "config": {"backend": "scripted"}, "start": False})
    await hive.ask("POST", "/v1/harness/hello", {"instance": _INSTANCE, "version": "0"}, agent="hm1nd")
    for number in range(ROUNDS + 1):
        agent = f"crash{number}"
        await hive.spawn_with(agent)
        properties = await bus.properties(service(agent))
        receiving = asyncio.create_task(_receive(hive, f"{agent} crashed (killed by SIGKILL)"))
        await hive.ask("GET", "/v1/whoami", agent="hm1nd")
        started = time.perf_counter()
        os.kill(properties.main_pid, signal.SIGKILL)
        down = await units.when(agent, started, lambda state: state.code != 0)
        taken = {"crash": await receiving - started, "beside crash": down - started}
        await hive.ask("POST", f"/v1/agents/{agent}/destroy", {"purge": True})
        _note(found, taken, number)


async def _receive(hive: HostHive, beginning: str) -> float:
    """As the manager: take messages until there is one that begins so; when that was."""
    while True:
        deliveries = (await hive.ask("POST", "/v1/messages/receive", _POLL, agent="hm1nd"))["deliveries"]
        moment = time.perf_counter()
        ids = [delivery["id"] for delivery in deliveries]
        await hive.ask("POST", "/v1/messages/ack", {"instance": _INSTANCE, "ids": ids}, agent="hm1nd")
        if any(delivery["body"].startswith(beginning) for delivery in deliveries):
            return moment


def _note(found: Samples, taken: Mapping[str, float], number: int) -> None:
    say(f"round {number} of {ROUNDS}: {', '.join(f'{what} {seconds:.3f} s' for what, seconds in taken.items())}")
    if number:
        for what, seconds in taken.items():
            found[what].append(seconds)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(measure())))
