"""The gate on real disks that are full for a while: what is refused has not happened, and what was begun goes on."""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path

import pytest

from tests.helpers.disks.small_disks import KINDS, SmallDisk, small_disk
from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon, Json, running

ANSWER_SECONDS = 10.0
PATIENCE = 30.0
WAITING = ("built", "deployed", "failed", "denied", "withdrawn")


def commit(daemon: Daemon, text: str) -> str:
    """Make a commit on top of what is deployed, as the agent."""
    place = daemon.state_dir / "agents/ada/config"
    git(place, "checkout", "--quiet", "-B", "work", "main")
    (place / "prompt.md").write_text(text)
    git(place, "commit", "--quiet", "--all", "--message", "A change")
    return git(place, "rev-parse", "HEAD")


async def fill(disk: SmallDisk, daemon: Daemon) -> None:
    """Take all space up, for the daemon too."""
    if disk.kind == "file size":
        wal = daemon.database.with_name("hive.sqlite-wal").stat().st_size
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (wal, resource.RLIM_INFINITY))
    else:
        await asyncio.to_thread(disk.fill)


def make_room(disk: SmallDisk, daemon: Daemon) -> None:
    if disk.kind == "file size":
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        disk.make_room()


async def answer(daemon: Daemon, path: str, body: Json, agent: str | None = None) -> bool:
    """Ask for something within the time in which an answer is due. Returns True if it was carried out."""
    async with asyncio.timeout(ANSWER_SECONDS):
        status, said = await daemon.request("POST", path, body, agent=agent)
    assert status == 200 or (status, said["error"]["code"]) == (507, "disk_full"), (path, said)
    return status == 200


async def settled(daemon: Daemon) -> dict[int, str]:
    """Wait until nothing is under way; the states of ada's proposals."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = (await daemon.ask("GET", "/v1/proposals?agent=ada&state=all"))["proposals"]
        states = {proposal["number"]: proposal["state"] for proposal in found}
        if set(states.values()) <= set(WAITING):
            return states
        assert time.monotonic() < deadline, (states, daemon.log_text()[-3_000:])
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_gate_goes_on_after_a_full_disk(hive_home: Path, kind: str) -> None:
    """All requests are answered, those with 507 have no effect, and without a restart history and agent agree."""
    with small_disk(kind, hive_home / "d") as disk:
        state = disk.path / "s"
        async with running(Daemon(hive_home, state_dir=state)) as daemon:
            await daemon.spawn("ada", start=False)
            commits = [commit(daemon, text) for text in ("You bake.\n", "You sing.\n", "You help.\n")]
            await daemon.ask("POST", "/v1/proposals", {"commit": commits[0], "note": "first"}, agent="ada")
            assert (await settled(daemon))[1] == "built"
            await fill(disk, daemon)
            decision = {"expect": "built", "note": "fine"}
            carried_out = await asyncio.gather(
                answer(daemon, "/v1/proposals/ada/1/approve", decision),
                answer(daemon, "/v1/proposals", {"commit": commits[1], "note": "second"}, "ada"),
                answer(daemon, "/v1/agents", {"name": "bob", "config": {"backend": "scripted"}, "start": False}),
            )
            assert not all(carried_out), "the disk is not full"
            refused = await answer(daemon, "/v1/proposals", {"commit": commits[2], "note": "third"}, "ada")
            make_room(disk, daemon)
            states = await settled(daemon)
            assert states[1] == ("deployed" if carried_out[0] else "built"), states
            assert len(states) == 2 + carried_out[1] + refused, states
            assert ("bob" in await daemon.agents()) == carried_out[2]
            assert sorted(path.name for path in (state / "scratch").glob("closure-*")) == []
            # All intakes share one, which has no pack.
            assert len(list((state / "scratch").glob("intake-*"))) <= 1
            assert not list((state / "scratch").glob("intake-*/pack"))
            if not carried_out[0]:
                await daemon.ask("POST", "/v1/proposals/ada/1/approve", decision)
            assert (await settled(daemon))[1] == "deployed"
            assert (await daemon.agents())["ada"]["deployment"] == 1
            verified = await daemon.ask("GET", "/v1/audit/verify")
            assert verified["ok"], verified
            # Raises where git finds anything wrong.
            git(state / "applied/ada.git", "fsck", "--strict")
