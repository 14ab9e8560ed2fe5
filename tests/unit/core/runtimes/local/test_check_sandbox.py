"""Checks of proposed work in real sandboxes: what they can use, and how hostile ones end."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.checks import memory_use
from hive_core.runtimes.checks.memory_use import FreeMemory
from hive_core.runtimes.checks.order import PLACES, CheckLimits, CheckRun, WayOut
from hive_core.runtimes.checks.supervise import MIB
from hive_core.runtimes.checks.unnamed_files import UnnamedFiles
from hive_core.runtimes.local import check_sandbox
from hive_core.runtimes.local.runtime import LocalRuntime
from tests.unit.core.runtimes.local.local_hive import need

PYTHON = "/usr/bin/python3"
LIMITS = CheckLimits(memory=256 * MIB, tasks=100, disk=64 * MIB, cpu=100, output=MIB, seconds=30)


class Checks:
    """A local runtime that runs shell scripts as checks, and the lines that they print."""

    def __init__(self, runtime: LocalRuntime, directory: Path) -> None:
        self.runtime = runtime
        self.directory = directory
        self.lines: list[str] = []
        for name in ("files", *PLACES):
            (directory / name).mkdir(parents=True)

    def order(self, *argv: str, limits: CheckLimits = LIMITS) -> CheckRun:
        return CheckRun("web-1", "ada", "", "web", self.directory, argv, limits)

    async def sh(self, script: str, limits: CheckLimits = LIMITS) -> str:
        return await self.runtime.run_check(self.order("sh", "-c", script, limits=limits), self.lines.append)

    async def python(self, script: str) -> str:
        # The interpreter of the tests may be in a directory that checks do not see.
        if not os.path.exists(PYTHON):  # noqa: ASYNC240, PTH110
            pytest.skip(f"{PYTHON} is not installed")
        return await self.runtime.run_check(self.order(PYTHON, "-c", script), self.lines.append)


@pytest.fixture
async def checks(tmp_path: Path) -> AsyncIterator[Checks]:
    need("bubblewrap")
    runtime = await LocalRuntime.open("bubblewrap", closures=tmp_path / "closures", scratch=tmp_path / "scratch")
    try:
        yield Checks(runtime, tmp_path / "run")
    finally:
        await runtime.close()


async def test_a_check_has_the_files_and_can_change_them(checks: Checks) -> None:
    """The command starts in its copy of the repository, can write there, and its output arrives line by line."""
    (checks.directory / "files/test.sh").write_text("echo made > made; pwd; echo $HOME; printf 'no end'")
    assert await checks.sh("sh test.sh && cat made && echo x > /tmp/x && echo x > /dev/shm/x && echo x > ~/x") == ""
    assert checks.lines == ["/code/web", "/home/check", "no endmade"]
    assert (checks.directory / "files/made").read_text() == "made\n"


async def test_a_failure_is_told(checks: Checks) -> None:
    """The reason is the exit code or the signal, or that there is no such command."""
    assert await checks.sh("echo why >&2; exit 3") == "exit code 3"
    assert await checks.sh("kill -SEGV $$") == "killed by SIGSEGV"
    assert checks.lines == ["why"]
    assert await checks.runtime.run_check(checks.order("no-such-command"), checks.lines.append) == "exit code 1"
    assert "no-such-command" in checks.lines[-1]


async def test_nothing_of_the_host_is_there(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check finds no credentials, no socket, no home, no variable of the daemon, and no directory of the hive."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret-key")
    script = f"""
    env; cat /proc/1/environ /proc/self/environ | tr '\\0' '\\n'
    ls -A /root /run/hive /run/dbus /var/lib {checks.directory.parent} ~ 2>/dev/null
    find / -xdev -type s 2>/dev/null
    ls /proc | grep -c '^[0-9]'
    """
    assert await checks.sh(script) == ""
    seen = "\n".join(checks.lines)
    assert "secret-key" not in seen
    variables = {line.partition("=")[0] for line in checks.lines if "=" in line}
    assert variables - {"OLDPWD", "_"} == {"PATH", "LANG", "HOME", "TMPDIR", "CI", "PWD"}
    assert [line for line in checks.lines if "=" not in line][:-1] == ["/home/check:"]
    assert int(checks.lines[-1]) < 10


async def test_there_is_no_network(checks: Checks) -> None:
    """A check has only a loopback of its own: the host's ports cannot be reached."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    script = f"""
import socket
print(sorted(name for _, name in socket.if_nameindex()))
try:
    socket.create_connection(("127.0.0.1", {port}), 2)
except OSError as error:
    print("refused")
"""
    assert await checks.python(script) == ""
    server.close()
    assert checks.lines == ["['lo']", "refused"]


async def test_nothing_else_can_be_written(checks: Checks) -> None:
    """The system and everything outside of the check's own directories are read-only."""
    script = "for d in / /usr /etc /code /dev /home /run /var; do (echo x > $d/x) 2>/dev/null && echo wrote $d; done; :"
    assert await checks.sh(script) == ""
    assert checks.lines == []


async def test_a_check_without_end_is_ended(checks: Checks) -> None:
    """A check that ignores signals ends at its time limit, with a process that left its session and parent."""
    script = (
        "trap '' TERM INT HUP; (setsid sh -c 'trap \"\" TERM; echo child; sleep 1000' &) ; while :; do sleep 1; done"
    )
    started = time.monotonic()
    assert await checks.sh(script, replace(LIMITS, seconds=1)) == "it took longer than 1 s"
    assert time.monotonic() - started < 10
    assert checks.lines == ["child"]
    assert not running(checks)


async def test_processes_end_with_the_command(checks: Checks) -> None:
    """What a check leaves running does not outlive it, and does not keep it from passing."""
    assert await checks.sh("(setsid sleep 1000 &); (setsid sleep 1000 >/dev/null 2>&1 &); echo done") == ""
    assert checks.lines == ["done"]
    assert not running(checks)


async def test_forks_without_end_are_ended(checks: Checks) -> None:
    """A fork bomb ends when it has more tasks than its limit."""
    script = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    assert await checks.python(script) == "it had more than 100 tasks"
    assert not running(checks)


async def test_the_disk_is_limited(checks: Checks) -> None:
    """One large file is refused by the kernel, and many small ones end the check."""
    assert await checks.sh("head -c 100M /dev/zero > big") != ""
    (checks.directory / "files/big").unlink()
    script = "i=0; while :; do i=$((i+1)); head -c 4M /dev/zero > /tmp/$i 2>/dev/null || sleep 1; done"
    assert await checks.sh(script) == "it used more than 64 MiB on the disk"
    shm = "i=0; while :; do i=$((i+1)); head -c 4M /dev/zero > /dev/shm/$i 2>/dev/null || sleep 1; done"
    assert await checks.sh(shm) == "it used more than 64 MiB on the disk"


async def test_directories_without_end_end_a_check(checks: Checks) -> None:
    """Directories that are nested too deep to be measured end the check."""
    script = "import os, time\nfor _ in range(300):\n    os.mkdir('d')\n    os.chdir('d')\ntime.sleep(60)"
    assert await checks.python(script) == "it made more than 256 directories in one another"


async def test_memory_is_limited(checks: Checks) -> None:
    """One process cannot have more memory than the limit, and several together end the check."""
    assert await checks.python("bytearray(1 << 30)") == "exit code 1"
    assert "MemoryError" in checks.lines[-1]
    script = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        kept = bytearray(60 << 20)
        time.sleep(60)
time.sleep(60)
"""
    assert await checks.python(script) == "it used more than 256 MiB of memory"


@pytest.mark.parametrize("mapped", [False, True], ids=["file in memory", "shared mapping"])
async def test_memory_that_no_process_has_for_itself_is_limited(checks: Checks, mapped: bool) -> None:
    """Files in memory that nobody has mapped count as memory, and so does what processes share, all of it."""
    script = f"""
import mmap, os, time
kept = []
for _ in range(8):
    if {mapped}:
        if os.fork() == 0:
            memory = mmap.mmap(-1, 40 << 20)
            memory.write(bytes(40 << 20))
            time.sleep(60)
    else:
        kept.append(os.memfd_create("x"))
        os.write(kept[-1], bytes(40 << 20))
time.sleep(60)
"""
    assert await checks.python(script) == "it used more than 256 MiB of memory"


async def test_memory_that_processes_share_counts_once(checks: Checks) -> None:
    """Processes with the same memory mapped, open or from before a fork pass, though their sum is over the limit."""
    script = """
import mmap, os, time
kept = bytearray(30 << 20)
file = os.memfd_create("x")
os.write(file, bytes(40 << 20))
memory = mmap.mmap(file, 40 << 20)
for _ in range(8):
    if os.fork() == 0:
        sum(memory[::4096])
        time.sleep(0.3)
        os._exit(0)
for _ in range(8):
    os.wait()
"""
    assert await checks.python(script) == ""


async def test_deleted_files_count_while_they_are_open(checks: Checks) -> None:
    """A check that keeps files open which it has deleted is ended at the limit of the disk."""
    script = """
import os, time
kept = []
for number in range(4):
    kept.append(open(f"/tmp/{number}", "wb"))
    os.unlink(kept[-1].name)
    kept[-1].write(bytes(20 << 20))
    kept[-1].flush()
time.sleep(60)
"""
    assert await checks.python(script) == "it used more than 64 MiB on the disk"


async def test_a_machine_without_memory_ends_a_check(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has used it up: when the machine has nearly no memory left, the check is ended and says so."""
    monkeypatch.setattr(check_sandbox, "free_memory", lambda: FreeMemory(available=1, total=100 * MIB))
    assert await checks.sh("sleep 60") == "the machine has less than 2 MiB of memory left"


async def test_what_cannot_be_seen_ends_a_check(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hides what it has open ends the check; one that is hidden for a moment does not."""
    hidden = iter([{"7"}, {"8"}, set[str](), {"9"}, {"9"}])
    monkeypatch.setattr(memory_use, "find_unnamed", lambda *_: UnnamedFiles(hidden=next(hidden)))
    assert await checks.sh("sleep 60") == "it had a process that hides which files it has open"
    assert next(hidden, None) is None


async def test_output_without_end_ends_a_check(checks: Checks) -> None:
    """A check that prints without end is ended, and no line of it is longer than is kept."""
    assert await checks.sh("cat /dev/zero") == "it printed more than 1 MiB"
    assert len(checks.lines) < 10
    assert await checks.sh("yes 'a line'") == "it printed more than 1 MiB"
    assert max(map(len, checks.lines)) < 20_000


async def test_output_has_no_effect_on_terminals(checks: Checks) -> None:
    """Escape sequences and bytes that are no text are shown as text."""
    assert await checks.sh(r"printf '\033[31mred\033[0m\033]0;title\007\n\377\n'") == ""
    assert checks.lines == ["red\\x1b]0;title\\x07", "\ufffd"]


async def test_a_cancelled_check_is_ended(checks: Checks) -> None:
    """A cancellation kills all processes before it returns."""
    task = asyncio.create_task(checks.sh("(setsid sleep 1000 &); echo up; sleep 1000"))
    while checks.lines != ["up"]:
        await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert not running(checks)


async def test_without_a_sandbox_no_check_is_run(tmp_path: Path) -> None:
    """Where nothing can confine a check it is refused, and says what to do."""
    runtime = await LocalRuntime.open("none", closures=tmp_path / "closures", scratch=tmp_path / "scratch")
    checks = Checks(runtime, tmp_path / "run")
    with pytest.raises(HiveError) as refused:
        await checks.sh("touch ran")
    assert (refused.value.code, refused.value.hint) == ("cannot_check", 'set sandbox = "auto" in the hive\'s settings')
    assert "the sandbox is switched off" in refused.value.message
    assert list((checks.directory / "files").iterdir()) == []
    await runtime.close()


def running(checks: Checks) -> list[str]:
    """The command lines of processes that can reach the files of the check."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and str(checks.directory) in (process / "mountinfo").read_text():
                found.append((process / "cmdline").read_text())
    return found


async def test_the_proxy_listens_before_the_check_begins(checks: Checks) -> None:
    """A check with a way out finds its port at once, knows it by variables, and whoever accepts there is outside."""
    lent: list[socket.socket] = []
    loop, served = asyncio.get_running_loop(), asyncio.Event()

    def give(listener: socket.socket) -> None:
        lent.append(listener)
        listener.setblocking(False)
        loop.add_reader(listener, answer)

    def answer() -> None:
        connection, _ = lent[0].accept()
        with connection:
            connection.sendall(b"from outside\n")
        served.set()

    code = (
        "import os, socket, urllib.parse\n"
        "place = urllib.parse.urlsplit(os.environ['https_proxy'])\n"
        "with socket.create_connection((place.hostname, place.port), timeout=10) as made:\n"
        "    print(made.recv(100).decode(), end='')"
    )
    run = replace(checks.order(PYTHON, "-c", code), way_out=WayOut(3128, give))
    try:
        assert await checks.runtime.run_check(run, checks.lines.append) == "", checks.lines
        assert checks.lines == ["from outside"] and served.is_set()
    finally:
        for listener in lent:
            loop.remove_reader(listener)
            listener.close()


async def test_a_check_with_a_way_out_has_nothing_else(checks: Checks) -> None:
    """Beside the proxy's port there is no network: no address, no route, no process of the hive."""
    lent: list[socket.socket] = []
    code = (
        "import os, socket\n"
        "for place in (('192.0.2.1', 80), ('127.0.0.1', 22)):\n"
        "    try: socket.create_connection(place, timeout=5)\n"
        "    except OSError as error: print(os.strerror(error.errno))\n"
        "print(sorted(name for _, name in socket.if_nameindex()))\n"
        "print(len([name for name in os.listdir('/proc') if name.isdecimal()]))\n"
    )
    run = replace(checks.order(PYTHON, "-c", code), way_out=WayOut(3128, lent.append))
    assert await checks.runtime.run_check(run, checks.lines.append) == "", checks.lines
    for listener in lent:
        listener.close()
    assert checks.lines == ["Network is unreachable", "Connection refused", "['lo']", "2"]
