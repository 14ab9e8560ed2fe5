"""Backups of a running hive, restored to another path."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from hive_core.infra.disk_quota.btrfs import create_subvolume
from hive_core.infra.disk_quota.conversion import become_subvolume
from hive_core.infra.storage.files import open_directory
from tests.helpers.disks.btrfs_file import is_subvolume, mounted_btrfs, why_no_btrfs
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


@pytest.mark.skipif(bool(why_no_btrfs()), reason=why_no_btrfs() or "it works")
async def test_a_running_hive_on_btrfs(hive_home: Path) -> None:
    """On btrfs the daemon copies its database while messages are sent, and the agents' subvolumes are in the backup."""
    file = hive_home / "hive.backup"
    settings = {"limits": json.dumps({"disk_max": "16M"})}
    with mounted_btrfs() as point:
        async with running(Daemon(hive_home, settings=settings, state_dir=point / "s")) as first:
            await first.spawn("bob", start=False)
            home = first.state_dir / "agents/bob"
            if not is_subvolume(home):
                await become_subvolume(home)
            with open_directory(home / "state") as state:
                create_subvolume(state, "inner")
            (home / "state/inner/notes").write_text("mine")
            acknowledged: list[int] = []
            backup = asyncio.create_task(run("backup", file, "--state-dir", first.state_dir, "--json"))
            while not backup.done():
                body = str(len(acknowledged))
                acknowledged.append((await first.ask("POST", "/v1/messages", {"to": "bob", "body": body}))["id"])
            code, out, err = backup.result()
            assert (code, json.loads(out)["left_out"]) == (0, []), err
            assert not list((first.state_dir / "scratch").iterdir())
    (hive_home / "two").mkdir()
    second = Daemon(hive_home / "two", state_dir=hive_home / "moved")
    code, _, err = await run("restore", file, "--state-dir", second.state_dir)
    assert code == 0, err
    assert (second.state_dir / "agents/bob/state/inner/notes").read_text() == "mine"
    async with running(second):
        kept = [row[0] for row in second.sql("SELECT id FROM messages ORDER BY id")]
        assert kept == acknowledged[: len(kept)]
        await second.ask("POST", "/v1/agents/bob/start")
        await second.agent_until("bob", lambda agent: agent["state"] == "idle")


async def test_a_daemon_that_cannot_be_asked(hive_home: Path) -> None:
    """While the daemon does not answer, the command opens the database itself."""
    async with running(Daemon(hive_home)) as daemon:
        daemon.host_socket.unlink()
        code, _, err = await run("backup", hive_home / "hive.backup", "--state-dir", daemon.state_dir)
        assert code == 0, err
        assert not daemon.log_entries("request failed")


async def test_an_agent_without_its_build_says_so(hive_home: Path) -> None:
    """`list` and `start` say what to do about a missing build, and after a rebuild the agent runs."""
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
