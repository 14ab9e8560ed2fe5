"""The system around an agent of the `local` runtime: programs, Python, DNS."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.real_daemon import Daemon, running
from tests.integration.harness.in_sandbox import needs_bubblewrap, run_inside

LOOK = """
import json, shutil, subprocess, sys
path = [item for item in open("/proc/2/environ").read().split("\\0") if item.startswith("PATH=")][0][5:]
answer = subprocess.run(["hive-ag3nt", "--version"], env={"PATH": path, "PYTHONPATH": "/state"}, capture_output=True)
print(json.dumps({
    "python": shutil.which("python3", path=path),
    "other": [name for name in ("hive-c0re", "hive-m1nd", "mypy", "ruff") if shutil.which(name, path=path)],
    "version": answer.returncode,
    "dns": open("/etc/resolv.conf").read(),
}))
"""


@pytest.fixture
async def hive(hive_home: Path) -> AsyncIterator[Daemon]:
    """A daemon that confines its agents, with an agent that has the host's network, and so its DNS."""
    async with running(Daemon(hive_home, settings={"sandbox": "bubblewrap"})) as daemon:
        config = {"backend": "scripted", "network": "host"}
        await daemon.ask("POST", "/v1/agents", {"name": "ada", "config": config})
        await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
        yield daemon


@needs_bubblewrap
async def test_the_hives_python_is_not_the_agents(hive: Daemon) -> None:
    """The agent finds `hive-ag3nt` and nothing else of the hive's environment; a changed DNS of the host is there at
    once, since the directory is shown and not the file.
    """
    seen = await run_inside(hive, "ada", LOOK)
    assert seen["version"] == 0
    assert seen["other"] == []
    assert seen["python"] is None or not seen["python"].startswith(sys.prefix)
    copy = hive.run_dir / "dns/resolv.conf"
    assert seen["dns"] == await asyncio.to_thread(copy.read_text)
    changed = copy.with_name("new")
    await asyncio.to_thread(changed.write_text, "nameserver 192.0.2.1\n")
    changed.replace(copy)
    assert (await run_inside(hive, "ada", LOOK))["dns"] == "nameserver 192.0.2.1\n"


async def test_a_plain_agent_has_the_same_path(daemon: Daemon) -> None:
    """Without a sandbox the PATH is the daemon's, with `hive-ag3nt` and without the hive's own environment."""
    await daemon.spawn("ada")
    status = await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
    environ = await asyncio.to_thread(Path(f"/proc/{status['pid']}/environ").read_bytes)
    [path] = [item[5:].decode() for item in environ.split(b"\0") if item.startswith(b"PATH=")]
    assert path.split(":")[0] == str(daemon.state_dir / "programs")
    assert str(Path(sys.prefix, "bin")) not in path.split(":")
