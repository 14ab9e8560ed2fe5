"""Checks of proposed work in units of a real systemd host, also hostile ones."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.checks.order import PLACES, CheckLimits, CheckRun, WayOut
from hive_core.runtimes.checks.supervise import MIB
from hive_core.runtimes.nixos.checks.check_sandbox import CheckUnits, forget_all_checks
from tests.system.builds.build_hive import host, units
from tests.system.host_hive import needs_limits

LIMITS = CheckLimits(memory=256 * MIB, tasks=100, disk=64 * MIB, cpu=200, output=MIB, seconds=60)
SHOWN = [path for path in map(Path, ("/usr", "/lib", "/lib64")) if path.is_dir()]
"""The host's programs, which a closure of the tests links to instead of the store."""


class Scene:
    """A closure whose programs are the host's, and the directory of a run."""

    def __init__(self, directory: Path) -> None:
        # Only root can enter it, as the state directory of a hive.
        directory.chmod(0o700)
        self.closure = directory / "closure"
        (self.closure / "sw").mkdir(parents=True)
        (self.closure / "sw/bin").symlink_to("/usr/bin")
        (self.closure / "etc").mkdir()
        (self.closure / "etc/nsswitch.conf").write_text("passwd: files\n")
        (directory / "secret").write_text("secret")
        self.directory = directory / "scratch/check-1"
        for name in ("files", *PLACES):
            (self.directory / name).mkdir(parents=True)
        self.units = CheckUnits([*SHOWN, self.closure])
        self.lines: list[str] = []

    def order(self, *argv: str, limits: CheckLimits = LIMITS) -> CheckRun:
        return CheckRun("web-1", "ada", str(self.closure), "web", self.directory, argv, limits)

    async def run(self, *argv: str, limits: CheckLimits = LIMITS) -> str:
        return await self.units.run(self.order(*argv, limits=limits), self.closure, self.lines.append)

    async def sh(self, script: str, limits: CheckLimits = LIMITS) -> str:
        return await self.run("sh", "-c", script, limits=limits)

    def again(self) -> None:
        """Lay the directory of the run out as for the next check."""
        shutil.rmtree(self.directory)
        self.lines.clear()
        for name in ("files", *PLACES):
            (self.directory / name).mkdir(parents=True)


@pytest.fixture
def scene() -> Iterator[Scene]:
    # Not in /tmp, of which a unit has its own.
    directory = Path(tempfile.mkdtemp(prefix="hive-", dir="/var/lib"))
    yield Scene(directory)
    shutil.rmtree(directory)
    assert units("hive-check-*") == []


async def test_a_check_has_its_files_and_nothing_of_the_host(scene: Scene) -> None:
    """A check works as a user of its own on a copy of the files, and sees no file, process or network of the host."""
    (scene.directory / "files/test.sh").write_text("#!/usr/bin/env sh\npwd; id -un; echo x > new; chmod 700 test.sh\n")
    (scene.directory / "files/test.sh").chmod(0o755)
    (scene.directory / "files/link").symlink_to("/etc/shadow")
    server = socket.create_server(("127.0.0.1", 0))
    script = f"""
        ./test.sh; echo x > /tmp/x; echo x > ~/x; echo x > /dev/shm/x; echo x > /var/tmp/x
        echo '$HOME' "$HOME" $$ | cut -d' ' -f1-2; env | cut -d= -f1 | sort | tr '\\n' ' '; echo
        cat link /etc/hyperhive/config.toml {scene.directory.parent.parent}/secret 2>&1 | grep -c 'No such file'
        for d in / /etc /usr /run /dev /nix /var /check; do (echo x > $d/x) 2>/dev/null && echo wrote $d; done
        ls /run /var /home; ls -d /proc/1 2>&1 | grep -c 'No such'; cat /proc/net/dev | grep -c ':'
        python3 -c 'import socket; socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), 2)' 2>&1 | tail -1
    """
    assert await scene.sh(script) == ""
    server.close()
    shown = "\n".join(scene.lines)
    assert scene.lines[:3] == ["/code/web", "check", "$HOME /home/check"], shown
    variables = set(scene.lines[3].split())
    assert {"PATH", "LANG", "HOME", "TMPDIR", "CI"} <= variables
    assert not {name for name in variables if name.startswith(("HIVE", "CREDENTIALS", "NIX"))}
    assert scene.lines[4] == "3", shown
    assert "wrote" not in shown
    assert scene.lines[-3:-1] == ["1", "1"], shown
    assert "ConnectionRefused" in scene.lines[-1], shown
    assert (scene.directory / "files/test.sh").stat().st_mode & 0o777 == 0o755


async def test_a_way_out_is_the_only_network(scene: Scene) -> None:
    """A check with hosts finds the proxy's port on its loopback at once; beside it, nothing of any network is there."""
    lent: list[socket.socket] = []
    loop = asyncio.get_running_loop()

    def give(listener: socket.socket) -> None:
        lent.append(listener)
        listener.setblocking(False)
        loop.add_reader(listener, answer)

    def answer() -> None:
        connection, _ = lent[0].accept()
        with connection:
            connection.sendall(b"from outside\n")

    script = """
        python3 -c 'import socket; print(socket.create_connection(("127.0.0.1", 3128), 9).recv(99).decode(), end="")'
        python3 -c 'import socket; socket.create_connection(("192.0.2.1", 80), 9)' 2>&1 | tail -1
        echo $https_proxy; grep -c ':' /proc/net/dev
    """
    run = replace(scene.order("sh", "-c", script), way_out=WayOut(3128, give))
    try:
        assert await scene.units.run(run, scene.closure, scene.lines.append) == "", scene.lines
    finally:
        for listener in lent:
            loop.remove_reader(listener)
            listener.close()
    assert scene.lines[0] == "from outside", scene.lines
    assert "unreachable" in scene.lines[1] and scene.lines[2:] == ["http://127.0.0.1:3128", "1"], scene.lines


async def test_failures_are_told(scene: Scene) -> None:
    """The reason is the exit code or the signal of the command, whatever it exits with; words arrive as they are."""
    assert await scene.sh("exit 3") == "exit code 3"
    scene.again()
    assert await scene.sh("rm -f /check/user/*; exit 226") == "exit code 226"
    scene.again()
    assert await scene.sh("kill -SEGV $$") == "killed by SIGSEGV"
    scene.again()
    assert await scene.run("printf", "%s\n", "$HOME", "${HOME}", "$$", "a b", "%n", "\\n", "") == ""
    assert scene.lines == ["$HOME", "${HOME}", "$$", "a b", "%n", "\\n", ""]


async def test_deleted_files_count_while_they_are_open(scene: Scene) -> None:
    """Files that a check has deleted and keeps open count against the limit of the disk."""
    fill = "head -c 40M /dev/zero"
    script = f"exec 3>one 4>two; rm one two; {fill} >&3; {fill} >&4; sleep 60"
    assert await scene.sh(script) == "it used more than 64 MiB on the disk"


async def test_every_process_ends(scene: Scene) -> None:
    """Processes that leave their session end with the command, at its time limit, and after a cancellation."""
    quick = replace(LIMITS, seconds=2)
    assert await scene.sh("(setsid sleep 1234 &) ; echo done") == ""
    scene.again()
    assert await scene.sh("trap '' TERM; (setsid sleep 1234 &) ; while :; do sleep 1; done", quick) == (
        "it took longer than 2 s"
    )
    scene.again()
    task = asyncio.create_task(scene.sh("(setsid sleep 1234 &) ; echo up; sleep 1234"))
    while "up" not in scene.lines:
        await asyncio.sleep(0.05)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert "sleep 1234" not in host("ps", "-eo", "args")


async def test_a_check_of_a_killed_daemon_is_ended(scene: Scene) -> None:
    """What a killed daemon has left running is ended at the next start."""
    task = asyncio.create_task(scene.sh("echo up; sleep 1234"))
    while "up" not in scene.lines:
        await asyncio.sleep(0.05)
    await forget_all_checks()
    assert "sleep 1234" not in host("ps", "-eo", "args")
    # The end as systemd tells it, if it has not forgotten the unit yet.
    try:
        assert (await task).startswith("killed by SIG")
    except HiveError as error:
        assert "the unit of a check could not be run" in error.message


@needs_limits
async def test_limits_hold(scene: Scene) -> None:
    """Memory, tasks, the disk and the output are limited, and the reason says which limit it was."""
    quick = replace(LIMITS, seconds=10)
    memory = await scene.run("python3", "-c", "bytearray(1 << 30)")
    assert "it used more than 256 MiB of memory" in memory
    scene.again()
    forks = "import os\nfor _ in range(1000): os.fork() or os.execvp('sleep', ['sleep', '1234'])"
    assert await scene.run("python3", "-c", forks, limits=quick) == "exit code 1"
    assert "BlockingIOError" in scene.lines[-1]
    scene.again()
    many = "i=0; while :; do i=$((i+1)); head -c 4M /dev/zero > /tmp/$i 2>/dev/null || sleep 1; done"
    # What is written counts as memory, too, where the host's disk is in memory.
    assert await scene.sh(many, replace(quick, memory=4096 * MIB)) == "it used more than 64 MiB on the disk"
    scene.again()
    assert await scene.sh("yes", quick) == "it printed more than 1 MiB"


async def test_a_unit_that_cannot_be_set_up_is_no_failure(scene: Scene) -> None:
    """Where systemd cannot set the unit up, no check has failed: it is an error of the hive."""
    scene.units = CheckUnits([Path("/no-such-store")])
    with pytest.raises(HiveError) as refused:
        await scene.sh("true")
    assert refused.value.code == "cannot_check"


LEND = """
import asyncio
import os
from hive_core.runtimes.checks.way_out import listening
async def main():
    async with listening(3128) as (listener, network):
        print(listener.getsockname(), network.exists())
        listener.close()
asyncio.run(main())
"""


def test_the_daemon_may_make_a_way_out() -> None:
    """The unit of the daemon, confined as it is, can make the network of a check and listen there."""
    unit = Path("/etc/systemd/system/hive-c0re.service").read_text()
    confining = ("Capability", "NoNew", "Protect", "Private", "Restrict", "SystemCall")
    # The Python of the tests may be in a home directory.
    lines = [line for line in unit.splitlines() if line.startswith(confining) and "ProtectHome" not in line]
    settings = [f"--property={line}" for line in lines]
    line = ("systemd-run", "--quiet", "--wait", "--pipe", f"--setenv=PYTHONPATH={Path.cwd()}", *settings)
    done = subprocess.run(
        [*line, "--", sys.executable, "-c", LEND], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "('127.0.0.1', 3128) True\n"), done.stderr
