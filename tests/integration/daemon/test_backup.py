"""Backups of a running hive, restored to another path."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from pathlib import Path

from tests.helpers.real_daemon import Daemon, running


async def run(*arguments: object) -> tuple[int, str, str]:
    """Run a command of `hive-c0re`: exit code, stdout, stderr."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HIVE_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hive_core", *map(str, arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_running_hive_goes_on_elsewhere(hive_home: Path) -> None:
    """A backup of a running daemon is a hive at another path: its agent runs there, and gets what it did not have."""
    file = hive_home / "hive.backup"
    first = Daemon(hive_home)
    async with running(first):
        await first.spawn("ann")
        await first.spawn("bob", start=False)
        await first.agent_until("ann", lambda agent: agent["state"] == "idle")
        (first.state_dir / "agents/ann/state/notes").write_text("mine")
        sent = await first.ask("POST", "/v1/messages", {"to": "bob", "body": "waits"})
        code, out, err = await run("backup", file, "--state-dir", first.state_dir, "--json")
        assert code == 0, err
        told = json.loads(out)
        assert (told["agents"], told["left_out"], told["bytes"]) == (["ann", "bob"], [], file.stat().st_size)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "agents/ann" in err.splitlines()
        code, _, err = await run("restore", file, "--state-dir", first.state_dir)
        assert code == 1 and f"(process {first.pid}) is using {first.state_dir}" in err
        assert await first.terminate() == 0
    (hive_home / "two").mkdir()
    second = Daemon(hive_home / "two", state_dir=hive_home / "moved")
    code, out, err = await run("restore", file, "--state-dir", second.state_dir)
    assert code == 0 and out.startswith(f"{second.state_dir}: agents: 2, as of "), err
    first.state_dir.rename(hive_home / "gone")
    async with running(second):
        await second.agent_until("ann", lambda agent: agent["state"] == "idle")
        assert (second.state_dir / "agents/ann/state/notes").read_text() == "mine"
        sent_too = await second.ask("POST", "/v1/messages", {"to": "ann", "body": "there?"})
        answer = await second.ask("GET", f"/v1/messages/{sent_too['id']}/reply?wait_seconds=30")
        assert answer["reply"]["body"] == "ann heard: there?"
        await second.ask("POST", "/v1/agents/bob/start")
        answer = await second.ask("GET", f"/v1/messages/{sent['id']}/reply?wait_seconds=30")
        assert answer["reply"]["body"] == "bob heard: waits"
        assert (await second.ask("GET", "/v1/agents/ann/history"))["deployments"][0]["number"] == 0


async def test_an_agent_without_its_build_says_so(hive_home: Path) -> None:
    """Where a build is missing, `list` and `start` say what to do, and after a rebuild the agent runs."""
    async with running(Daemon(hive_home)) as daemon:
        await daemon.spawn("ann")
        await daemon.terminate()
        (daemon.state_dir / "closures/ann").rename(hive_home / "lost")
        await daemon.start()
        agent = await daemon.agent_until("ann", lambda agent: agent["lifecycle"] == "failed")
        assert "the build output of ann no longer exists" in agent["exit_cause"]
        assert "hive-c0re rebuild ann" in agent["exit_cause"]
        status, answer = await daemon.request("POST", "/v1/agents/ann/start")
        assert (status, answer["error"]["hint"]) == (409, "hive-c0re rebuild ann")
        await daemon.ask("POST", "/v1/agents/ann/rebuild", {"note": "it is missing"})
        await daemon.agent_until("ann", lambda agent: agent["state"] == "idle")
