"""The operator and the manager of a soaked hive: they propose, decide, roll back, spawn, stop, start and destroy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

import aiohttp

from hive_core.protocol.names import MANAGER
from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon, Json
from tests.soak.record import Record

PATIENCE = 300.0
"""Longest time in seconds that an answer may take: a stop or a deployment waits for other processes."""
SHORTAGES = frozenset({"stopping", "disk_full", "database_full"})
"""Refusals that belong to what is done to the hive. Any other one from 500 on is a fault."""
GOOD = 'backend = "scripted"\nscript = [{{ match = "{number}" }}]\n'
BROKEN = "backend = \n"


class Operator:
    """Requests of every kind on some agents, each counted with its outcome."""

    def __init__(self, daemon: Daemon, record: Record, dice: random.Random, changed: Sequence[str]) -> None:
        """`changed` are the agents whose configurations change."""
        self._daemon = daemon
        self._record = record
        self._dice = dice
        self._changed = changed
        self._spawned = 0
        self.passing: set[str] = set()
        """Agents that were spawned here, and perhaps not yet purged."""
        self.stopped: set[str] = set()
        """Agents that were perhaps stopped here."""

    async def ask(
        self, kind: str, method: str, path: str, body: object = None, *, agent: str | None = None
    ) -> Json | None:
        """Return the answer; None after a refusal or if there was no answer. Both are counted."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(PATIENCE):
                status, answer = await self._daemon.request(method, path, body, agent=agent)
        except TimeoutError:
            self._record.did(kind, "no answer in time")
            self._record.fault(f"{kind} was not answered within {PATIENCE:.0f} s")
            return None
        except (aiohttp.ClientError, OSError, ValueError):
            self._record.did(kind, "unanswered")
            await asyncio.sleep(0.5)
            return None
        self._record.took(f"{kind}, answered", loop.time() - began)
        if status == 200:
            self._record.did(kind, "ok")
            return answer
        error = answer["error"]
        self._record.did(kind, error["code"])
        if status >= 500 and error["code"] not in SHORTAGES:
            self._record.fault(f"{kind} was answered with {status} {error['code']}: {error['message']}")
        return None

    async def change(self) -> None:
        """Propose a change of an agent; take some back at once."""
        name = self._dice.choice(self._changed)
        content = BROKEN if self._dice.random() < 0.1 else GOOD.format(number=self._dice.randrange(10**9))
        try:
            commit = await asyncio.to_thread(self._commit, name, content)
        except (AssertionError, OSError) as error:  # The disk is full.
            self._record.did("commit", f"not made: {str(error).strip().splitlines()[0]:.60}")
            return
        self._record.did("commit", "made")
        by = name if self._dice.random() < 0.7 else None
        request = {"commit": commit, "note": "a change", **({} if by else {"agent": name})}
        made = await self.ask("propose", "POST", "/v1/proposals", request, agent=by)
        if made is not None and self._dice.random() < 0.1:
            await self.ask("withdraw", "POST", f"/v1/proposals/{name}/{made['number']}/withdraw", {}, agent=by)

    async def decide(self) -> None:
        """Approve most of what was built, deny the rest."""
        listed = await self.ask("list proposals", "GET", "/v1/proposals")
        built = [found for found in listed["proposals"] if found["state"] == "built"] if listed else []
        for found in built[:10]:
            await self._decide_on(found, "deny" if self._dice.random() < 0.25 else "approve")

    async def _decide_on(self, found: Json, verb: str) -> None:
        """Decide as the manager or the operator, whoever has to."""
        by = MANAGER if found["waits_for"] == "manager" else None
        path = f"/v1/proposals/{found['agent']}/{found['number']}/{verb}"
        await self.ask(verb, "POST", path, {"expect": "built", "note": "seen"}, agent=by)

    async def roll_back(self) -> None:
        """Roll an agent back to the deployment before."""
        name = self._dice.choice(self._changed)
        await self.ask("roll back", "POST", f"/v1/agents/{name}/rollback", {"note": "back"})

    async def spawn(self) -> None:
        """Spawn a new agent, or one of the name of an earlier one."""
        self._spawned += 1
        name = f"e{self._spawned % 6}"
        self.passing.add(name)
        request = {"name": name, "config": {"backend": "scripted"}, "start": self._dice.random() < 0.7}
        await self.ask("spawn", "POST", "/v1/agents", request)

    async def destroy(self) -> None:
        """Destroy one of the agents that were spawned here, half of them with their files."""
        if self.passing:
            name = self._dice.choice(sorted(self.passing))
            purge = self._dice.random() < 0.5
            kind = "purge" if purge else "destroy"
            await self.ask(kind, "POST", f"/v1/agents/{name}/destroy", {"purge": purge})

    async def _purge(self, name: str) -> Json | None:
        return await self.ask("purge", "POST", f"/v1/agents/{name}/destroy", {"purge": True})

    async def stop(self, names: Sequence[str]) -> None:
        """Stop one of the agents for a moment, then start it; or restart it."""
        name = self._dice.choice([*names, *self._changed, *sorted(self.passing)])
        if self._dice.random() < 0.5:
            await self.ask("restart", "POST", f"/v1/agents/{name}/restart")
            return
        self.stopped.add(name)
        await self.ask("stop", "POST", f"/v1/agents/{name}/stop")
        await asyncio.sleep(self._dice.uniform(0, 3))
        if await self.ask("start", "POST", f"/v1/agents/{name}/start") is not None:
            self.stopped.discard(name)

    async def look(self) -> None:
        """Read what operators read, and measure how long a list takes."""
        await self.ask("list", "GET", "/v1/agents")
        await self.ask("status", "GET", "/v1/status")

    async def calm(self) -> None:
        """Start what was stopped, end what was spawned, and deny what waits; wait until no proposal is open."""
        for name in sorted(self.stopped - self.passing):
            await self.ask("start", "POST", f"/v1/agents/{name}/start")
        for name in sorted(self.passing):
            if await self._purge(name) is None:
                # It was destroyed, or its spawn failed: its files are kept for an agent of its name.
                await self.ask("spawn", "POST", "/v1/agents", {"name": name, "start": False})
                await self._purge(name)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while opened := await self._open_proposals():
                    for found in opened:
                        if found["state"] == "built":
                            await self._decide_on(found, "deny")
                    await asyncio.sleep(0.2)
        for found in await self._open_proposals():
            self._record.fault(f"a proposal of kind {found['kind']} stays in the state {found['state']}")

    async def _open_proposals(self) -> list[Json]:
        proposals: list[Json] = (await self._daemon.ask("GET", "/v1/proposals"))["proposals"]
        return proposals

    def _commit(self, name: str, content: str) -> str:
        """Commit in the agent's own repository; returns the commit."""
        config = self._daemon.state_dir / "agents" / name / "config"
        for left in (config / ".git").glob("*.lock"):
            left.unlink()
        git(config, "reset", "-q", "--hard")
        (config / "agent.toml").write_text(content)
        git(config, "commit", "-q", "-a", "--allow-empty", "-m", "A change")
        return git(config, "rev-parse", "HEAD")
