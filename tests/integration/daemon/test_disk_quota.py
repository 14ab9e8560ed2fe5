"""Disk quotas of agents, on a real btrfs: an agent that fills its quota harms nobody else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hive_core.infra.disk_quota.btrfs import file_system
from hive_core.infra.storage.files import open_directory
from tests.helpers.disks.btrfs_file import enable_quotas, is_subvolume, mounted_btrfs, why_no_btrfs
from tests.helpers.real_daemon import Daemon, Json, running
from tests.integration.harness.in_sandbox import needs_bubblewrap, run_inside

pytestmark = [needs_bubblewrap, pytest.mark.skipif(bool(why_no_btrfs()), reason=why_no_btrfs() or "it works")]

FILL = """
import errno, json, os, sys
written, failed = 0, ""
try:
    with open(sys.argv[1], "wb", buffering=0) as file:
        while written < int(sys.argv[2]):
            written += file.write(bytes(1 << 20))
        os.fsync(file.fileno())
except OSError as error:
    failed = errno.errorcode[error.errno]
print(json.dumps([written >> 20, failed]))
"""


@pytest.fixture
async def hive(hive_home: Path) -> AsyncIterator[Daemon]:
    """A daemon with its state on a btrfs with quotas, whose agents may write 16 MiB, and none more than 64."""
    settings = {
        "sandbox": "bubblewrap",
        "limits": json.dumps({"disk_max": "16M"}),
        "ceilings": json.dumps({"disk_max": "64M"}),
    }
    with mounted_btrfs() as point:
        async with running(Daemon(hive_home, settings=settings, state_dir=point / "s")) as daemon:
            yield daemon


async def spawned(daemon: Daemon, name: str, **config: object) -> Json:
    await daemon.ask("POST", "/v1/agents", {"name": name, "config": {"backend": "scripted", **config}})
    return await daemon.agent_until(name, lambda agent: agent["state"] == "idle")


async def fill(daemon: Daemon, agent: str, path: str, mebibytes: int) -> tuple[int, str]:
    """Write a file in an agent's sandbox; return the MiB that went into it, and the error."""
    written, failed = await run_inside(daemon, agent, FILL, path, str(mebibytes << 20))
    return written, failed


async def test_an_agent_fills_its_quota_and_the_others_go_on(hive: Daemon) -> None:
    """EDQUOT in every place of the agent's; the daemon stores messages, and others write, start and stop. A raised
    limit helps at once, up to the ceiling.
    """
    status = await spawned(hive, "ada")
    assert (status["disk_max"], status["disk_problem"]) == ("16M", "")
    written, failed = await fill(hive, "ada", "/state/file", 40)
    assert (written <= 16, failed) == (True, "EDQUOT")
    for path in ("/config/file", "/root/.claude/file"):
        assert (await fill(hive, "ada", path, 40))[1] == "EDQUOT"

    await hive.ask("POST", "/v1/messages", {"to": "ada", "body": "hello"})
    await spawned(hive, "bob")
    assert await fill(hive, "bob", "/state/file", 4) == (4, "")

    shown = await hive.ask("GET", "/v1/agents/ada/limits")
    assert (shown["in_force"]["disk_max"], shown["disk_problem"]) == ("16M", "")
    assert shown["usage"]["disk_bytes"] > 8 << 20
    assert (await hive.request("POST", "/v1/agents/ada/limits", {"disk_max": "65M"}))[0] == 400
    changed = await hive.ask("POST", "/v1/agents/ada/limits", {"disk_max": "64M"})
    assert changed["in_force"]["disk_max"] == "64M"
    assert await fill(hive, "ada", "/state/more", 10) == (10, "")
    assert (await hive.agents())["ada"]["disk_max"] == "64M"
    await hive.ask("POST", "/v1/agents/ada/stop")


async def test_a_quota_ends_with_a_purge(hive: Daemon) -> None:
    """Destroy keeps the quota together with the files, purge removes both, and a new agent gets one of its own."""
    home = hive.state_dir / "agents/ada"
    await spawned(hive, "ada", disk_max="32M")
    await hive.ask("POST", "/v1/agents/ada/destroy", {})
    assert is_subvolume(home)
    assert groups(hive.state_dir) == 1
    assert (await spawned(hive, "ada", disk_max="20M"))["disk_max"] == "20M"
    assert groups(hive.state_dir) == 1
    await hive.ask("POST", "/v1/agents/ada/destroy", {"purge": True})
    assert not home.exists()
    assert groups(hive.state_dir) == 0
    assert (await spawned(hive, "ada"))["disk_max"] == "16M"


@pytest.mark.soak
async def test_an_agent_from_before_quotas_gets_one_at_its_next_start(hive_home: Path) -> None:
    """Its plain directory becomes a subvolume with the same files; until then the reason is shown."""
    with mounted_btrfs(quotas=False) as point:
        state_dir = point / "s"
        settings = {"sandbox": "bubblewrap"}
        async with running(Daemon(hive_home, settings=settings, state_dir=state_dir)) as daemon:
            status = await spawned(daemon, "ada", disk_max="16M")
            assert status["disk_max"] is None
            assert "simple quotas are switched off" in status["disk_problem"]
            answer = await daemon.request("POST", "/v1/agents/ada/limits", {"disk_max": "32M"})
            assert answer[1]["error"]["code"] == "disk_not_limited"
            assert not is_subvolume(state_dir / "agents/ada")
            enable_quotas(point)
            await daemon.ask("POST", "/v1/agents/ada/restart")
            status = await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
            assert (status["disk_max"], status["disk_problem"]) == ("16M", "")
            assert is_subvolume(state_dir / "agents/ada")
            assert (await fill(daemon, "ada", "/state/file", 40))[1] == "EDQUOT"


def groups(directory: Path) -> int:
    """Return how many groups of subvolumes the btrfs has that a directory is on."""
    with open_directory(directory) as descriptor:
        fsid = file_system(descriptor)
    return len(list(Path("/sys/fs/btrfs", str(fsid), "qgroups").glob("1_*")))
