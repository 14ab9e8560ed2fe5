"""Killed at any step of making, changing and removing a container, the daemon finishes or undoes what it had begun.

All steps of one way are gone through in one go: the daemon dies at the first, is back, and goes on or is asked again,
until it dies at the next one. So it also dies while it puts right what an earlier death has left.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon, Json
from tests.integration.gate.consistency_check import Tag, problems
from tests.integration.gate.crashing_daemon import CrashingDaemon
from tests.integration.gate.proposal_scenarios import Scenario, decide, exists, newest, propose
from tests.system.host_hive import FLAKE, HostHive, closure_of, inside, left_of, limits_of, service, unit

pytestmark = pytest.mark.asyncio(loop_scope="session")

STARTING = (
    "after writing conf",
    "after writing environment",
    "after writing 10-hyperhive.conf",
    "before systemd's start",
    "during systemd's start",
    "after systemd's start",
)
MAKING = (
    "during a build",
    "after a build",
    "agent's place made",
    "before nixos-container create",
    "during nixos-container create",
    "after nixos-container create",
    *STARTING,
)
CHANGING = (
    "about to activate",
    "before systemd's stop",
    "during systemd's stop",
    "after systemd's stop",
    "before setting the profile",
    "after setting the profile",
    "after systemd's reload",
    *(step for step in STARTING if "10-hyperhive" not in step),  # with that changed, it would be read with the unit
    "activated",
    "watched",
)
REMOVING = (
    "during systemd's stop",
    "before nixos-container destroy",
    "during nixos-container destroy",
    "after nixos-container destroy",
    "before systemd's reload",
    "agent destroyed",
)
WITH_JQ = "{ pkgs, ... }: { hyperhive.packages = [ pkgs.jq ]; }\n"
LIMITED = 'backend = "scripted"\nmemory_max = "300M"\n'


@asynccontextmanager
async def mortal() -> AsyncIterator[CrashingDaemon]:
    """A hive of its own, whose daemon can be made to die; its manager does not run, the tests speak for it."""
    home = Path(tempfile.mkdtemp(prefix="m", dir="/run"))
    nixos = json.dumps({"flake": f"path:{FLAKE}"})
    wrapper = (sys.executable, "-m", "tests.system.crashing_daemon_program")
    hive = CrashingDaemon(home, {"runtime": "nixos", "nixos": nixos, "stop_timeout": 5}, wrapper)
    arm(hive, ())
    try:
        await hive.daemon.start()
        await hive.daemon.spawn("hm1nd", start=False)
        yield hive
    finally:
        await hive.daemon.close()


def arm(hive: CrashingDaemon, steps: Sequence[str]) -> list[str]:
    """Have the daemon die at these steps from now on; those of earlier ones at which it did not."""
    place = hive.daemon.home / "die"
    left = place.read_text().splitlines() if place.exists() else []
    place.write_text("".join(f"{step}\n" for step in steps))
    return left


async def go(hive: CrashingDaemon, steps: Sequence[str], work: Callable[[], Awaitable[None]]) -> None:
    """Do the work, dying at each of the steps that lie on its way; all of them must. But what the daemon has died
    during may go on without it: then there is no step after it any more.
    """
    arm(hive, steps)
    async with asyncio.timeout(120):
        await hive.through(work)
    needless = {step.replace("during ", "after ") for step in steps if step.startswith("during ")}
    assert set(arm(hive, ())) - needless == set(), "it did not die there"
    await hive.through(lambda: check(hive))


async def idle(hive: CrashingDaemon, agent: str) -> None:
    """Wait until the agent's harness has nothing to do; raises Gone if there is no daemon meanwhile."""
    status: Json = {}
    while status.get("state") != "idle":
        await asyncio.sleep(0.05)
        agents = (await hive.ask("GET", "/v1/agents"))["agents"]
        (status,) = (one for one in agents if one["name"] == agent)


async def check(hive: CrashingDaemon) -> None:
    """Nothing is open, all that is written down agrees, and what runs is what was approved, and healthy."""
    for (name,) in hive.daemon.sql("SELECT name FROM agents WHERE desired = 'running'"):
        await hive.daemon.agent_until(name, lambda status: status["state"] == "idle", 60)
    assert (await hive.ask("GET", "/v1/proposals"))["proposals"] == []
    assert await problems(hive.daemon, in_force) == []


def in_force(daemon: Daemon, status: Json, newest: Tag | None) -> Iterator[str]:
    """What the database says and what the container was started on: both as the newest deployment has it."""
    assert newest is not None
    name = status["name"]
    ((number, closure),) = daemon.sql("SELECT deployment, closure FROM agents WHERE name = ?", name)
    if number != newest.number or status["deployment"] != newest.number:
        yield f"in force is {number} ({status['deployment']}), deployed is {newest.number}"
    if not Path(closure, "init").exists():
        yield f"{closure} is gone"
    if status["lifecycle"] == "running":
        runs = closure_of(name), f"HIVE_AGENT_DEPLOYMENT={number}"
        told = inside(
            name, "sh", "-c", "tr '\\0' '\\n' </proc/$(systemctl show --value -p MainPID hive-harness)/environ"
        )
        if runs[0] != closure or runs[1] not in told.splitlines():
            yield f"its container runs {runs[0]}, deployed is {closure}"


def changed(hive: CrashingDaemon, agent: str) -> str:
    """A commit with another package and another limit: all that is written before a start changes."""
    hive.commit(agent, WITH_JQ)
    config = hive.daemon.state_dir / "agents" / agent / "config"
    (config / "agent.toml").write_text(LIMITED)
    git(config, "commit", "-q", "-a", "--amend", "--no-edit")
    return git(config, "rev-parse", "HEAD")


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_killed_at_every_step(hive: HostHive) -> None:
    """Made, changed and removed in the end, one terminal tag each, what runs as approved, and nothing left over."""
    async with mortal() as dying:
        agent = "kit"

        async def make() -> None:
            for found in await dying.proposals(agent):
                await dying.until(agent, found["number"], "deployed", "failed")
            if not await exists(dying, agent):
                await dying.ask("POST", "/v1/agents", {"name": agent})
            await idle(dying, agent)

        async def remove() -> None:
            if await exists(dying, agent):
                await dying.ask("POST", f"/v1/agents/{agent}/destroy", {})

        await go(dying, MAKING, make)
        scenario = Scenario(agent, changed(dying, agent))
        await propose(dying, scenario)

        async def change() -> None:
            await decide(dying, scenario)
            await idle(dying, agent)

        await go(dying, CHANGING, change)
        found = await newest(dying, scenario)
        assert found is not None
        assert found["state"] == "deployed", found["outcome"]
        assert limits_of(agent)["memory"] == str(300 * 1024**2)
        await go(dying, REMOVING, remove)
        assert unit(service(agent), "ActiveState") == "inactive"
        assert left_of(agent) == []
