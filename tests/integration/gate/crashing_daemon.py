"""A hive whose daemon dies at a milestone of one's choice, and clients that go on when it is back."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiohttp

from hive_core.runtimes.local.config_check import LARGEST
from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon, Json, running
from tests.integration.gate.consistency_check import problems
from tests.integration.gate.crashing_daemon_program import trace_of

T = TypeVar("T")

GOOD = "{ }\n"
BROKEN = "#" * (LARGEST + 1)
"""Passes the intake and fails the local runtime's build, whether Nix is installed or not."""
_PATIENCE = 30.0
_WRAPPER = (sys.executable, "-m", "tests.integration.gate.crashing_daemon_program")


class Gone(Exception):
    """The daemon died, or was dead. The request may or may not have been carried out."""


class CrashingDaemon:
    """The hive and its operator. Requests raise Gone when there is nobody to answer, AssertionError when refused."""

    def __init__(self, home: Path, settings: Mapping[str, object], wrapper: Sequence[str] = _WRAPPER) -> None:
        self._die_at = home / "die"
        environment = {"DIE_AT": str(self._die_at)}
        self.daemon = Daemon(home, settings=settings, environment=environment, wrapper=wrapper)
        self._changes = itertools.count(1)

    # --- death ----------------------------------------------------------------------------------------------

    def arm(self, milestone: int) -> None:
        """Let the daemon die at so manieth a milestone from now; 1 is the next."""
        self._die_at.write_text(str(milestone))

    async def disarm(self) -> bool:
        """Nobody dies any more; whether somebody did, who is back now."""
        try:
            self._die_at.unlink()
        except FileNotFoundError:
            await self.back()
            return True
        return False

    async def back(self) -> None:
        """Wait until the daemon is ready after a death; call it once for each."""
        await self.daemon.notified("READY=1")

    @property
    def deaths(self) -> list[str]:
        """The milestones at which the daemon has died."""
        place = trace_of(self._die_at)
        return place.read_text().splitlines() if place.exists() else []

    # --- requests -------------------------------------------------------------------------------------------

    async def request(
        self, method: str, path: str, body: object = None, *, agent: str | None = None
    ) -> tuple[int, Json]:
        """Status and answer."""
        try:
            return await self.daemon.request(method, path, body, agent=agent)
        except (aiohttp.ClientError, OSError):
            raise Gone from None

    async def ask(self, method: str, path: str, body: object = None, *, agent: str | None = None) -> Json:
        """The answer of a request that must succeed."""
        status, answer = await self.request(method, path, body, agent=agent)
        assert status == 200, f"{method} {path}: {status} {answer}"
        return answer

    async def through(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work, and do it again while the daemon is not there. It has to look first at what is done already."""
        deadline = time.monotonic() + _PATIENCE
        dead = False
        while True:
            try:
                if dead:
                    # Questions are answered from the index at once; this one waits until it is what the tags say.
                    await self.ask("GET", "/v1/audit/verify")
                return await work()
            except Gone:
                dead = True
                assert time.monotonic() < deadline, self.daemon.log_text()[-2_000:]
                await asyncio.sleep(0.01)

    async def proposals(self, agent: str, state: str = "all") -> list[Json]:
        """The newest first."""
        found: list[Json] = (await self.ask("GET", f"/v1/proposals?agent={agent}&state={state}"))["proposals"]
        return found

    async def until(self, agent: str, number: int, *states: str) -> Json:
        """Wait until a proposal is in one of the states."""
        path = f"/v1/proposals/{agent}/{number}"
        found = await self.ask("GET", path)
        while found["state"] not in states:
            found = await self.ask("GET", f"{path}?unlike={found['state']}&wait_seconds={_PATIENCE:g}")
        return found

    # --- what must hold -------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Nothing is open, all that is written down agrees, and so does what runs."""
        for (name,) in self.daemon.sql("SELECT name FROM agents WHERE desired = 'running'"):
            await self.daemon.agent_until(name, lambda status: status["lifecycle"] == "running")
        assert (await self.ask("GET", "/v1/proposals"))["proposals"] == []
        found = await problems(self.daemon)
        assert found == [], found

    async def check_with_the_command(self) -> None:
        """`hive-c0re audit verify` finds nothing wrong."""
        command = [sys.executable, "-m", "hive_core", "--socket", str(self.daemon.host_socket)]
        command += ["audit", "verify", "--json"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["ok"]

    # --- agents' side ---------------------------------------------------------------------------------------

    def commit(self, agent: str, agent_nix: str = GOOD) -> str:
        """A commit of the agent's on top of what is deployed. No two are the same, but of their trees there are only
        two that are good: building one for the second time takes no time.
        """
        config = self.daemon.state_dir / "agents" / agent / "config"
        applied = self.daemon.state_dir / "applied" / f"{agent}.git"
        git(config, "fetch", "-q", str(applied), "main")
        git(config, "reset", "-q", "--hard", "FETCH_HEAD")
        number = next(self._changes)
        (config / "prompt.md").write_text(f"You are {('good', 'better')[number % 2]}.\n")
        (config / "agent.nix").write_text(agent_nix)
        git(config, "commit", "-q", "-a", "--allow-empty", "-m", f"change {number}")
        return git(config, "rev-parse", "HEAD")


def mortal(home: Path, **settings: object) -> AbstractAsyncContextManager[CrashingDaemon]:
    """A running hive with a manager that does not run: the tests speak for it."""
    return mortal_with(_WRAPPER, home, settings)


@asynccontextmanager
async def mortal_with(
    wrapper: Sequence[str], home: Path, settings: Mapping[str, object]
) -> AsyncIterator[CrashingDaemon]:
    """The same with another program as the daemon's."""
    hive = CrashingDaemon(home, settings, wrapper)
    async with running(hive.daemon):
        await hive.daemon.spawn("hm1nd", start=False)
        yield hive
