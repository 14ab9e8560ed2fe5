"""When and what to kill: a schedule from a seed, and its execution on a running hive."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import psutil

from tests.helpers.real_daemon import Daemon
from tests.integration.crash.consumer_processes import Consumers

Target = Literal["daemon", "starting daemon", "stopping daemon", "harness", "consumer"]
SHARES: dict[Target, int] = {"daemon": 4, "starting daemon": 1, "stopping daemon": 1, "harness": 3, "consumer": 3}
"""How many of a dozen kills each target gets."""


@dataclass(frozen=True)
class Kill:
    """`after` and `then` are in seconds: before the kill, and, where it has two steps, between them."""

    target: Target
    after: float
    then: float
    choice: float

    def one_of(self, names: Sequence[str]) -> str:
        return names[int(self.choice * len(names))]


def schedule(seed: str, dozens: int) -> list[Kill]:
    """The same kills for the same seed; each target has its share in every dozen."""
    dice = random.Random(seed)
    kills = []
    for _ in range(dozens):
        dozen = [target for target, share in SHARES.items() for _ in range(share)]
        dice.shuffle(dozen)
        for target in dozen:
            kills.append(Kill(target, dice.uniform(0, 0.8), dice.uniform(0, 0.3), dice.random()))
    return kills


class Killer:
    """Carries out kills. After each the hive runs again, or is about to."""

    def __init__(self, daemon: Daemon, consumers: Consumers, agents: Sequence[str], consumed: Sequence[str]) -> None:
        """`agents` are run by the daemon, `consumed` by the consumers."""
        self._daemon = daemon
        self._consumers = consumers
        self._agents = agents
        self._consumed = consumed
        self.done = 0

    async def carry_out(self, kill: Kill) -> None:
        """Wait for the kill's moment, and kill."""
        daemon = self._daemon
        if kill.target == "starting daemon":
            await daemon.kill()
            daemon.launch()
            await asyncio.sleep(kill.after)
            await self._kill_daemon()
        elif kill.target == "consumer":
            await asyncio.sleep(kill.then)
            await self._consumers.kill(kill.one_of(self._consumed))
            self.done += 1
        elif kill.target == "harness":
            await asyncio.sleep(kill.then)
            await self._kill_harness(kill.one_of(self._agents))
        else:
            await asyncio.sleep(kill.after)
            if kill.target == "stopping daemon":
                os.kill(daemon.pid, signal.SIGTERM)
                await asyncio.sleep(kill.then)
            await self._kill_daemon()

    async def _kill_daemon(self) -> None:
        await self._daemon.kill()
        self.done += 1
        await self._daemon.start()

    async def _kill_harness(self, name: str) -> None:
        """The process as the daemon tells of it, once it runs."""
        pid = (await self._daemon.agent_until(name, lambda agent: agent["lifecycle"] == "running"))["pid"]
        with suppress(psutil.NoSuchProcess):  # Another reason to end came first, which is as good.
            process = psutil.Process(pid)
            if "serve" in process.cmdline():
                process.kill()
        self.done += 1
