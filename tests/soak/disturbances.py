"""Disturbances of a hive in a soak: kills, a full disk, jumps of the clock, hostile clients."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import aiohttp
import psutil

from tests.helpers.real_daemon import Daemon, NotRunning
from tests.integration.crash.consumer_processes import Consumers
from tests.integration.crash.kill_schedule import Kill
from tests.soak.places import Clock, Disk, jump
from tests.soak.record import Record

START_SECONDS = 120.0
"""Longest time in which the daemon must start again, with room on its disk."""
ATTACKS = ("half-sent", "sends", "lists", "logs", "malformed", "many ids")


class Kills:
    """Kills of the daemon, of harnesses, of consumers and of agent CLIs; the daemon is started after each."""

    def __init__(self, daemon: Daemon, consumers: Consumers, disk: Disk, record: Record) -> None:
        self._daemon = daemon
        self._consumers = consumers
        self._disk = disk
        self._record = record
        self.killing = False
        """The daemon is being killed or started, so that its end is no fault."""

    async def carry_out(self, kill: Kill, agents: Sequence[str], consumed: Sequence[str]) -> None:
        """Wait for the kill's moment, and kill. `agents` are run by the daemon, `consumed` by the consumers."""
        daemon = self._daemon
        if kill.target == "consumer":
            await self._consumers.kill(kill.one_of(consumed))
            self._record.did("kill consumer")
        elif kill.target == "harness":
            await self.kill_process("kill harness", kill.one_of(agents), "serve")
        else:
            self.killing = True
            try:
                await asyncio.sleep(kill.after)
                if kill.target == "stopping daemon" and daemon.running:
                    os.kill(daemon.pid, signal.SIGTERM)
                    await asyncio.sleep(kill.then)
                elif kill.target == "starting daemon":
                    await daemon.kill()
                    daemon.launch()
                    await asyncio.sleep(kill.after)
                await daemon.kill()
                self._record.did("kill daemon", kill.target)
                await self.start()
            finally:
                self.killing = False

    async def start(self) -> None:
        """Start the daemon, again while it refuses for want of room, as systemd would."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_SECONDS
        while not self._daemon.running:
            began = loop.time()
            try:
                await self._daemon.start()
                self._record.took("daemon ready", loop.time() - began)
            except NotRunning as refusal:
                words = str(refusal).strip().splitlines() or ["nothing"]
                self._record.did("start refused", words[-1][:100])
                if loop.time() > deadline:
                    self._record.fault(f"the daemon does not start: {words[-1]}")
                    raise
                await asyncio.sleep(0.5)
            except AssertionError as slow:
                self._record.fault(f"the daemon did not become ready: {slow!s:.200}")
                await self._daemon.kill()

    async def kill_process(self, kind: str, agent: str, word: str) -> None:
        """Kill the harness of an agent, or what it has started, whose command line has `word`; nothing if none runs."""
        with suppress(aiohttp.ClientError, OSError, ValueError, psutil.Error):
            _, answer = await self._daemon.request("GET", "/v1/agents")
            pid = next((found["pid"] for found in answer.get("agents", []) if found["name"] == agent), None)
            if pid is not None:
                harness = psutil.Process(pid)
                for process in [harness, *harness.children(recursive=True)]:
                    if any(word in argument for argument in process.cmdline()):
                        process.kill()
                        self._record.did(kind)
                        return
        self._record.did(kind, "not running")

    async def watch(self) -> None:
        """Start the daemon again when it ends by itself, which is a fault."""
        while True:
            await asyncio.sleep(0.5)
            if not self._daemon.running and not self.killing:
                process = self._daemon.process
                code = None if process is None else process.returncode
                self._record.fault(f"the daemon ended by itself with exit code {code}")
                self.killing = True
                try:
                    await self.start()
                finally:
                    self.killing = False


async def fill_and_free(disk: Disk, record: Record, dice: random.Random) -> None:
    """Fill the disk for some seconds, again and again."""
    while True:
        await asyncio.sleep(dice.uniform(20, 60))
        try:
            await disk.fill()
            record.did("disk full")
            await asyncio.sleep(dice.uniform(1, 15))
            if dice.random() < 0.5:
                await disk.fill()  # What was freed meanwhile, by a checkpoint for example, too.
                await asyncio.sleep(dice.uniform(1, 5))
        finally:
            disk.free()


async def move_clock(clock: Clock, record: Record, dice: random.Random) -> None:
    """Move the daemon's clock forward and back, again and again."""
    while True:
        await asyncio.sleep(dice.uniform(5, 25))
        offset = jump(dice, clock.offset)
        record.did("clock", "forward" if offset > clock.offset else "back")
        clock.set(offset)


async def attack(daemon: Daemon, agent: str, record: Record, dice: random.Random) -> None:
    """Let an agent attack the daemon in one way after another."""
    while True:
        await asyncio.sleep(dice.uniform(1, 10))
        kind = dice.choice(ATTACKS)
        with _attacker(daemon, agent, kind) as attacker:
            record.did("attack", kind)
            await asyncio.sleep(dice.uniform(2, 10))
            if attacker.poll() is not None:
                record.did("attack", "ended with the daemon")


@contextmanager
def _attacker(daemon: Daemon, agent: str, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.integration.daemon.attacker", str(daemon.core_socket(agent)), kind]
    # It fails when the daemon is killed, which needs no words.
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as attacker:
        try:
            yield attacker
        finally:
            attacker.kill()
