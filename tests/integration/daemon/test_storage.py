"""What the daemon does when the disk does not take what it is to store."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.helpers.disks.small_disks import small_disk as small_filesystem
from tests.helpers.real_daemon import Daemon, running

SENDERS = 8


async def send(daemon: Daemon, body: str) -> tuple[int, str]:
    """Send one message to ann: the status, and the code of a refusal."""
    status, answer = await daemon.request("POST", "/v1/messages", {"to": "ann", "body": body})
    return status, answer["error"]["code"] if status != 200 else ""


async def refusals(daemon: Daemon, body: str) -> set[str]:
    """Send again and again on one connection until the daemon hangs up: the codes of the refusals."""
    codes = set()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(daemon.host_socket))) as session:
        with suppress(aiohttp.ClientError, OSError):
            while True:
                async with session.post("http://hive/v1/messages", json={"to": "ann", "body": body}) as response:
                    assert response.status == 503
                    codes.add((await response.json())["error"]["code"])
    return codes


def change_database(daemon: Daemon, statement: str) -> None:
    """Change the schema as another program would."""
    with closing(sqlite3.connect(daemon.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA legacy_alter_table = ON")
        connection.execute(statement)


async def test_a_writer_that_fails_takes_the_daemon_down(hive_home: Path) -> None:
    """No half daemon: senders hear that nothing was stored, the log says why, the exit code is 1; then it recovers."""
    async with running(Daemon(hive_home, settings={"stop_timeout": 1})) as daemon:
        await daemon.spawn("ann", start=False)
        # An agent that does not hear that it is to stop: there is time to send to a daemon without a writer.
        await daemon.spawn("bob")
        bob = await daemon.agent_until("bob", lambda agent: agent["state"] == "idle")
        psutil.Process(bob["pid"]).suspend()
        for number in range(50):
            assert await send(daemon, f"{number} " + "x" * 4_000) == (200, "")
        # A fault of the file, which nothing that a caller could do repairs.
        change_database(daemon, "ALTER TABLE messages RENAME TO damaged")
        async with asyncio.timeout(8):
            # Nobody is left waiting for a writer that is gone, which would hold up the stop.
            heard = await asyncio.gather(*(refusals(daemon, f"late {number}") for number in range(SENDERS)))
            assert await daemon.ended() == 1
        codes = set().union(*heard)
        assert "storage_failed" in codes
        assert codes <= {"storage_failed", "stopping"}
        (entry,) = daemon.log_entries("a part of the daemon failed")
        assert (entry["level"], entry["part"]) == ("critical", "database writer")
        assert "no such table: messages" in entry["exception"]
        change_database(daemon, "ALTER TABLE damaged RENAME TO messages")
        await daemon.start()
        assert (await daemon.agents())["ann"]["unacked"] == 50
        assert await send(daemon, "and on") == (200, "")
        assert daemon.sql("SELECT count(*) FROM messages WHERE body LIKE 'late%'") == [(0,)]


async def test_a_limit_of_file_sizes_refuses_sends_and_recovers(hive_home: Path) -> None:
    """A write-ahead log that may not grow is a full disk: 507 `disk_full`, then sends work again, without a restart."""
    async with running(Daemon(hive_home)) as daemon:
        await daemon.spawn("ann", start=False)
        written = daemon.database.with_name("hive.sqlite-wal").stat().st_size
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (written, resource.RLIM_INFINITY))
        crowd = await asyncio.gather(*(send(daemon, f"late {number} " + "x" * 50_000) for number in range(SENDERS)))
        assert Counter(crowd) == {(507, "disk_full"): SENDERS}
        stopped = await daemon.ask("POST", "/v1/agents/ann/stop")
        assert stopped["lifecycle"] == "stopped"
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert await send(daemon, "and on") == (200, "")
        assert daemon.sql("SELECT count(*) FROM messages WHERE body LIKE 'late%'") == [(0,)]
        assert not daemon.log_entries("a part of the daemon failed")


async def test_agents_are_stopped_and_removed_within_an_exceeded_quota(hive_home: Path) -> None:
    """Also where only the removal of files works, a killed daemon's successor knows of it, and it is stored later."""
    with small_filesystem("quota", hive_home / "disk") as disk:
        async with running(Daemon(hive_home, state_dir=disk.path / "s")) as daemon:
            for name in ("ann", "bob"):
                await daemon.spawn(name)
            disk.fill()
            while (await send(daemon, "x" * 50_000))[0] == 200:
                pass
            disk.fill()
            assert await send(daemon, "x" * 50_000) == (507, "disk_full")
            async with asyncio.timeout(20):
                stopped = await daemon.ask("POST", "/v1/agents/ann/stop")
                disk.fill()  # Now the reserve is gone, too.
                await daemon.ask("POST", "/v1/agents/bob/destroy", {"purge": False})
            assert stopped["lifecycle"] == "stopped"
            await daemon.kill()
            await daemon.start()
            found = await daemon.agents()
            assert {name: agent["lifecycle"] for name, agent in found.items()} == {"ann": "stopped"}
            disk.make_room()
            async with asyncio.timeout(20):
                while (await audited(daemon))[("bob", "destroy")] == 0:
                    await asyncio.sleep(0.05)
            assert await send(daemon, "room again") == (200, "")
            assert (await audited(daemon))[("ann", "stop")] == 1
            assert not daemon.log_entries("a part of the daemon failed")


async def audited(daemon: Daemon) -> Counter[tuple[str, str]]:
    """Count the rows of the audit log by subject and action."""
    rows = (await daemon.ask("GET", "/v1/audit"))["rows"]
    return Counter((row["subject"], row["action"]) for row in rows)


def small_disk(place: Path, size: int) -> list[str]:
    """A command that gives what it runs a disk of `size` bytes at `place`; skips the test where bwrap cannot."""
    # It dies with its parent, so that a kill of bwrap reaches the daemon in it.
    command = ["bwrap", "--die-with-parent", "--dev-bind", "/", "/", "--size", str(size), "--tmpfs", str(place)]
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"bubblewrap cannot make a small disk here: {tried.stderr.strip()}")
    return command


async def test_a_full_disk_refuses_sends_and_recovers(hive_home: Path) -> None:
    """507 `disk_full` while there is no room, with nothing stored and reads at work; then sends work again."""
    state = hive_home / "s"
    state.mkdir()
    wrapper = small_disk(state, 4 * 1024 * 1024)
    async with running(Daemon(hive_home, wrapper=wrapper)) as daemon:
        await daemon.spawn("ann", start=False)
        disk = daemon.seen_inside(state)
        accepted = 0
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * 2 * 1024 * 1024)
        while (outcome := await send(daemon, f"{accepted} " + "x" * 50_000)) == (200, ""):
            accepted += 1
            assert accepted < 100, "the disk does not fill up"
        assert outcome == (507, "disk_full")
        crowd = await asyncio.gather(*(send(daemon, "y" * 100_000) for _ in range(SENDERS)))
        assert Counter(crowd) == {(507, "disk_full"): SENDERS}
        # With the last page used up, a refusal that cannot be audited is still told as what it is.
        with (disk / "rest").open("wb", buffering=0) as rest, suppress(OSError):
            while True:
                rest.write(b"\0" * 4096)
        assert {(await daemon.request("GET", "/v1/nothing"))[0] for _ in range(25)} == {404}
        assert daemon.log_entries("refusal not audited")
        # What is stored can still be read, and the refused are not counted.
        assert (await daemon.agents())["ann"]["unacked"] == accepted
        ballast.unlink()
        assert await send(daemon, "room again") == (200, "")
        assert (await daemon.agents())["ann"]["unacked"] == accepted + 1
        # A copy, since SQLite would resolve the path of the disk to the one outside.
        for name in ("hive.sqlite", "hive.sqlite-wal"):
            shutil.copyfile(disk / name, hive_home / name)
        connection = sqlite3.connect(hive_home / "hive.sqlite")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM deliveries").fetchone() == (accepted + 1,)
        connection.close()
