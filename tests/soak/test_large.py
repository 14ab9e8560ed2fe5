"""Large things through the way in, and a large repository: they arrive whole, and the daemon does not grow by them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.benchmarks.work import large_repository
from tests.helpers.real_daemon import Daemon, running
from tests.integration.access.caller import Caller
from tests.integration.access.test_commands import on_terminal
from tests.unit.core.runtimes.local.local_hive import why_no_bubblewrap

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7_200)]

SECONDS = 1_800.0
MIB = 1024 * 1024
MOST_GROWTH = 100 * MIB
"""Resident memory that the daemon may gain, at its peak, by any of these."""


@pytest.fixture
async def caller(hive_home: Path) -> AsyncIterator[Caller]:
    """Commands against an agent ada, whose turns take a minute; sandboxed where that works."""
    sandbox = "none" if why_no_bubblewrap() else "bubblewrap"
    async with running(Daemon(hive_home, settings={"sandbox": sandbox})) as daemon:
        await daemon.spawn("ada", script=[{"match": "think", "think": 60.0}])
        yield Caller(daemon)


def peak(daemon: Daemon) -> int:
    """The most memory that the daemon has had resident since its start, in bytes (VmHWM, proc(5))."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def write_random(path: Path, size: int) -> str:
    """Write a file of random bytes; returns its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MIB):
            piece = os.urandom(MIB)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


async def test_a_gibibyte_is_copied_both_ways(caller: Caller, place: Path) -> None:
    """A file of 1 GiB arrives in the agent, and comes back, with the same bytes."""
    before = peak(caller.daemon)
    digest = await asyncio.to_thread(write_random, place / "large", 1024 * MIB)
    for line in (("cp", str(place / "large"), "ada:/state/"), ("cp", "ada:/state/large", str(place / "back"))):
        ended = await caller.run(*line, seconds=SECONDS)
        assert (ended.code, ended.out, ended.err) == (0, b"copied 1 file, 1.0 GiB\n", "")
    with (place / "back").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest
    assert peak(caller.daemon) - before < MOST_GROWTH


async def test_a_hundred_thousand_files_are_copied_both_ways(caller: Caller, place: Path) -> None:
    """A directory of 100,000 files arrives in the agent, and comes back, with each file as it was."""
    for number in range(100_000):
        path = place / "tree" / f"d{number // 1000}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    for line in (("cp", str(place / "tree"), "ada:/state/"), ("cp", "ada:/state/tree", str(place / "back"))):
        ended = await caller.run(*line, seconds=SECONDS)
        assert (ended.code, ended.err) == (0, ""), ended
        assert ended.out.startswith(b"copied 100000 files"), ended.out
    compared = await asyncio.create_subprocess_exec("diff", "-r", str(place / "tree"), str(place / "back"))
    assert await compared.wait() == 0


async def test_a_terminal_shows_200_megabytes(caller: Caller) -> None:
    """All that a program prints on a terminal is shown, and neither the daemon nor the command keeps it."""

    def visit() -> tuple[int, int]:
        made = f"head -c {200 * MIB} /dev/zero | tr '\\0' x; exit 7"
        shown, most = 0, 0
        with on_terminal(caller, "exec", "ada", "-it", "--", "sh", "-c", made) as (pid, terminal):
            tail = b""
            while b"code 7" not in tail:
                data = os.read(terminal, 65_536)
                shown += data.count(b"x")
                tail = (tail + data)[-100:]
                if shown % 100 == 0 or not most:
                    here = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
                    most = max(most, *(each.memory_info().rss for each in here if each.is_running()))
        return shown, most

    before = peak(caller.daemon)
    shown, most = await asyncio.to_thread(visit)
    assert shown == 200 * MIB
    assert most < 100 * MIB
    assert peak(caller.daemon) - before < MOST_GROWTH


async def test_fifty_sessions_beside_a_turn(caller: Caller) -> None:
    """Fifty sessions begin and end well while a turn of the agent runs, which they do not disturb."""
    daemon = caller.daemon
    await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": "think"})
    await daemon.agent_until("ada", lambda agent: agent["state"] == "thinking")
    ended = await asyncio.gather(
        *(caller.run("exec", "ada", "-i", "--", "cat", stdin=b"%d" % number) for number in range(50))
    )
    assert [each.out for each in ended] == [b"%d" % number for number in range(50)]
    assert (await daemon.agents())["ada"]["state"] == "thinking"
    await daemon.agent_until("ada", lambda agent: agent["state"] == "idle" and not agent["unacked"], 120.0)


async def test_a_mirror_of_two_gigabytes(caller: Caller, place: Path) -> None:
    """A repository of 2 GB is added, given to an agent and fetched again; the daemon reads none of it whole."""
    daemon, upstream = caller.daemon, place / "upstream.git"
    await asyncio.to_thread(large_repository.make, upstream, 10_000, 2_000_000_000)
    before = peak(daemon)
    added = await caller.run("repo", "add", "big", str(upstream), seconds=SECONDS)
    assert added.code == 0, added
    config = {"backend": "scripted", "repos": ["big"]}
    await daemon.ask("POST", "/v1/agents", {"name": "bob", "config": config})
    await daemon.agent_until("bob", lambda agent: agent["state"] == "idle", SECONDS)
    counted = await caller.run("exec", "bob", "--", "sh", "-c", "cd /code/big && git ls-files | wc -l")
    assert counted.out.strip() == b"10000", counted
    again = await caller.run("repo", "fetch", "big", seconds=SECONDS)
    assert again.code == 0, again
    assert peak(daemon) - before < MOST_GROWTH
