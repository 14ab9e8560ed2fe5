"""Spawning: nothing leaks, nothing is left, and how a child ended is told in words."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from hive_core.processes import Command, exit_words, read_all, spawn
from tests.unit.runtimes.hive import gone


def python(script: str, **environment: str) -> Command:
    return Command([sys.executable, "-c", script], environment, Path("/"))


def descriptors() -> set[str]:
    return {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}


async def run(command: Command, limit: int = 1_000_000) -> tuple[int, str]:
    """Exit code and output of a command."""
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
    """What a child leaves in its process group dies when the child ends."""
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
    """Exit codes and signals, also those without a name, are told in words."""
    assert exit_words(returncode).endswith(words)
