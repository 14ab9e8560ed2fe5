"""What a command of an intake can reach, tried by a shell that runs in the place of git."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from pathlib import Path

import psutil
import pytest

from hive_core.gate.intake.confinement import Plain, Sandbox, limits
from hive_core.infra.git.quarantine import GitEnd, GitInvocation, GitStarter, ended, finish, pipe
from hive_core.infra.processes import readable
from hive_core.runtimes.bubblewrap import inspect_host

SHELL = Path(shutil.which("sh") or "/bin/sh").resolve()
MEMORY = 512 * 1024 * 1024
LIMITS = limits(1024 * 1024, MEMORY, 20.0)


async def run(start: GitStarter, script: str, reads: tuple[Path, ...] = (), writes: tuple[Path, ...] = ()) -> GitEnd:
    source, feed = pipe()
    process = start(GitInvocation(("-c", script), {"PATH": "/usr/bin:/bin"}, reads, writes), source)
    os.close(source)
    os.close(feed)
    async with ended(process):
        return await finish(process)


@pytest.fixture
def sandbox() -> Sandbox:
    """The sandbox of an intake, with a shell in the place of git."""
    return Sandbox(shutil.which("bwrap") or "bwrap", inspect_host(python=()), SHELL, LIMITS)


async def test_only_what_is_written_can_be_written(sandbox: Sandbox, tmp_path: Path) -> None:
    """A command can write to the directory it is given for that, and nowhere else."""
    reads, writes = tmp_path / "reads", tmp_path / "writes"
    reads.mkdir()
    writes.mkdir()
    tried = [reads, writes, "/", "/tmp", "/dev", "/usr", "/etc", tmp_path]
    script = " ".join(f"touch {place}/new 2>&1 && echo wrote {place};" for place in tried)
    end = await run(sandbox, script, (reads,), (writes,))
    assert [line for line in end.output.splitlines() if line.startswith("wrote")] == [f"wrote {writes}"]
    assert list(reads.iterdir()) == []


async def test_nothing_of_the_machine_is_seen(sandbox: Sandbox, tmp_path: Path) -> None:
    """A command sees no users, no processes, no network, no home and no other directory of the hive."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "shown").mkdir()
    script = f"for i in /etc/passwd /etc/shadow /proc/1 /sys /root /home /run /var {tmp_path}/secret; do"
    script += ' [ -e "$i" ] && echo "$i is there"; done; ls /dev'
    end = await run(sandbox, script, (tmp_path / "shown",))
    assert end == GitEnd(0, "null\nurandom\n")


async def test_no_capabilities_and_nobody_else(sandbox: Sandbox) -> None:
    """A command can mount nothing and is alone with process 1 of its sandbox."""
    end = await run(sandbox, "mount -t tmpfs none /usr 2>/dev/null && echo mounted; kill -0 3 && echo other; echo $$")
    assert end.output.splitlines()[-1] == "2" and "mounted" not in end.output and "other" not in end.output.splitlines()


@pytest.mark.parametrize("confined", [True, False])
async def test_limits_hold(sandbox: Sandbox, confined: bool) -> None:
    """Memory, time and the size of files are limited from the first step on, in the sandbox and without one."""
    start: GitStarter = sandbox if confined else Plain(SHELL, LIMITS)
    # As git does, it waits for its input first.
    end = await run(start, "read line; ulimit -v; ulimit -t; ulimit -f; ulimit -c")
    memory, seconds, blocks, core = (int(line) for line in end.output.split())
    assert memory * 1024 == LIMITS[resource.RLIMIT_AS] and seconds == 20 and core == 0
    assert blocks * 512 == LIMITS[resource.RLIMIT_FSIZE]


async def test_a_bwrap_that_fails_is_told(tmp_path: Path, sandbox: Sandbox) -> None:
    """A sandbox that cannot be set up ends with words that name bwrap."""
    end = await run(sandbox, "true", (tmp_path / "missing",))
    assert end.status != 0 and end.output.startswith("bwrap: ")


async def test_a_kill_reaches_all_of_it(sandbox: Sandbox) -> None:
    """All processes of a sandbox are in the group that is killed: none can live on, however early the kill comes."""
    source, feed = pipe()
    process = sandbox(GitInvocation(("-c", "echo; read line"), {"PATH": "/usr/bin:/bin"}, (), ()), source)
    os.close(source)
    async with ended(process):
        await readable(process.output)
        pids = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        assert len(pids) == 3 and {os.getpgid(pid) for pid in pids} == {process.pid}
    os.close(feed)


async def test_a_kill_that_nobody_waits_for_is_finished(sandbox: Sandbox) -> None:
    """A command is ended and reaped also when time is up while it is being ended."""
    source, feed = pipe()
    process = sandbox(GitInvocation(("-c", "read line"), {"PATH": "/usr/bin:/bin"}, (), ()), source)
    os.close(source)

    async def leave() -> None:
        async with ended(process):
            leaving.set()

    leaving = asyncio.Event()
    task = asyncio.create_task(leave())
    await leaving.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    os.close(feed)
    assert process.ended and not psutil.pid_exists(process.pid)
