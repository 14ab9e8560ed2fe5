"""Child processes: nothing leaks, nothing is left, and exits are described."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.infra.processes import Command, LineCutter, describe_exit, find_listener, read_all, spawn
from tests.unit.core.runtimes.local.local_hive import gone


def python(script: str, **environment: str) -> Command:
    return Command([sys.executable, "-c", script], environment, Path("/"))


def descriptors() -> set[str]:
    return {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}


async def run(command: Command, limit: int = 1_000_000) -> tuple[int, str]:
    """Return exit code and output of a command."""
    process = spawn(command)
    output = await read_all(process.output, limit)
    returncode = await process.wait()
    process.close()
    return returncode, output.decode()


async def test_exit_code_and_output() -> None:
    """A child's exit code, standard output and standard error come back."""
    assert await run(python("import sys; print('a', flush=True); sys.exit('b')")) == (1, "a\nb\n")


async def test_environment_is_exactly_what_was_given() -> None:
    """A child gets the environment that it was given and nothing of the daemon's."""
    script = "import os; print(sorted(key for key in os.environ if key != 'LC_CTYPE'))"
    assert await run(python(script, ONLY="this")) == (0, "['ONLY']\n")


async def test_output_beyond_the_limit_is_dropped() -> None:
    """A command that writes too much is read to its end, its output cut."""
    assert await run(python("print('x' * 300_000)"), limit=70_000) == (0, "x" * 70_000)


async def test_failed_spawn_leaves_no_descriptor() -> None:
    """A program that is not there raises OSError and leaves nothing open."""
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        spawn(Command(["/no/such/program"], {}, Path("/")))
    with pytest.raises(ValueError, match="null"):
        spawn(Command(["/bin/true\0"], {}, Path("/")))
    assert descriptors() == before


async def test_the_group_is_killed_before_the_child_is_reaped() -> None:
    """Processes that a child leaves in its process group are killed when the child ends."""
    process = spawn(python("import subprocess; print(subprocess.Popen(['sleep', '1000']).pid, flush=True); input()"))
    # The pipe's end comes when also the one left behind is dead.
    output, returncode = await asyncio.gather(read_all(process.output, 1_000), process.wait())
    left = int(output.split(b"\n")[0])
    assert returncode == 1
    with suppress(ProcessLookupError):
        await gone(os.pidfd_open(left))
    process.close()


@pytest.mark.parametrize(
    ("returncode", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-40, "signal 40")]
)
def test_exit_words(returncode: int, words: str) -> None:
    """Exit codes and signals, also those without a name, are described."""
    assert describe_exit(returncode).endswith(words)


async def test_input_and_output_go_where_they_are_sent() -> None:
    """A child reads the input that it is given; its output goes elsewhere if asked, its errors still to the pipe."""
    given, feed = os.pipe()
    taken, result = os.pipe()
    script = "import sys; print(sys.stdin.read().upper()); print('said', file=sys.stderr)"
    process = spawn(Command([sys.executable, "-c", script], {}, Path("/"), stdin=given, stdout=result))
    os.close(given)
    os.close(result)
    os.write(feed, b"abc")
    os.close(feed)
    assert await read_all(process.output, 1_000) == b"said\n"
    assert await process.wait() == 0
    assert os.read(taken, 100) == b"ABC\n"
    os.close(taken)
    process.close()


async def test_limits_hold_for_a_child_and_its_children() -> None:
    """A child that waits for its input has its limits when that comes, and hands them down."""
    given, feed = os.pipe()
    show = "import resource; print(resource.getrlimit(resource.RLIMIT_FSIZE), resource.getrlimit(resource.RLIMIT_CPU))"
    script = f"input(); import subprocess, sys; subprocess.run([sys.executable, '-c', {show!r}])"
    limits = {resource.RLIMIT_FSIZE: 12_345, resource.RLIMIT_CPU: 7}
    process = spawn(Command([sys.executable, "-c", script], {}, Path("/"), stdin=given, limits=limits))
    os.close(given)
    os.write(feed, b"\n")
    os.close(feed)
    output = (await read_all(process.output, 10_000)).decode()
    await process.wait()
    process.close()
    assert output == "(12345, 12345) (7, 7)\n"


async def test_a_child_lets_others_go_first() -> None:
    """The priority of a command is lowered as it says; that of others is the daemon's."""
    for nice in (0, 7):
        process = spawn(Command(["sleep", "1000"], {"PATH": os.defpath}, Path("/"), nice=nice))
        try:
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == (nice or os.getpriority(os.PRIO_PROCESS, 0))
        finally:
            await process.end()


async def test_limits_that_cannot_be_set_leave_nothing_running() -> None:
    """A child whose limits cannot be set is killed, and the caller gets an error."""
    before = descriptors()
    with pytest.raises((OSError, ValueError)):
        spawn(Command(["sleep", "1000"], {"PATH": os.defpath}, Path("/"), limits={9_999: 1}))
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222 - returns at once


@given(st.lists(st.binary(max_size=40) | st.just(b"\n")), st.integers(1, 30))
def test_lines_are_cut_from_any_chunks(chunks: list[bytes], longest: int) -> None:
    """However output is split into chunks, the same lines come out; one that is too long keeps one byte too many."""
    cutter = LineCutter(longest)
    found = [line for chunk in chunks for line in cutter.feed(chunk)] + cutter.finish()
    lines = b"".join(chunks).split(b"\n")
    assert found == [line[: longest + 1] for line in (lines if lines[-1] else lines[:-1])]


def test_a_line_without_end_takes_bounded_memory() -> None:
    """Of a line that does not end no more is held than what is kept of it."""
    cutter = LineCutter(100)
    tracemalloc.start()
    try:
        for _ in range(200):
            assert cutter.feed(b"x" * 10_000) == []
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
    assert cutter.feed(b"x\nnext\n") == [b"x" * 101, b"next"]


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")])
def test_the_process_that_listens_on_a_port_is_found(family: socket.AddressFamily, address: str) -> None:
    """On any address, and only while it listens; a connection to the port is none of that."""
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        found = find_listener(port)
        assert found is not None and found.pid == os.getpid() and found.name
    assert find_listener(port) is None
