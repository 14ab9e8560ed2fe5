"""What a turn's program leaves behind: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import psutil
import pytest

from hive_agent.infra.processes import Program, reap_adopted, running
from tests.helpers.own_children import OwnChildren

ENVIRONMENT = {"PATH": os.environ["PATH"]}


async def test_everything_started_is_killed(tmp_path: Path) -> None:
    """The program, its children and those in sessions of their own end with the block; other children go on."""
    children = OwnChildren()
    other = await asyncio.create_subprocess_exec("sleep", "1003")
    try:
        script = "setsid sleep 1004 & (setsid sh -c 'sleep 1005 & sleep 1006') & echo ready; sleep 1007"
        async with running(["sh", "-c", script], ENVIRONMENT, tmp_path) as process:
            assert process.stdout is not None
            await process.stdout.readline()
            started = psutil.Process(process.pid).children(recursive=True)
        assert process.returncode == -9
        assert started
        assert [child.pid for child in children.alive()] == [other.pid]
    finally:
        other.kill()
        await other.wait()


async def test_exit_code_and_output_are_the_programs(tmp_path: Path) -> None:
    """A program that ends by itself is reported as it ended, in its directory and with no more than its environment."""
    async with running(["sh", "-c", "pwd; env | grep -c SECRET; exit 7"], ENVIRONMENT, tmp_path) as process:
        output, _ = await process.communicate()
    assert output.decode().split() == [str(tmp_path), "0"]
    assert process.returncode == 7


async def test_cancelled_block_leaves_nothing(tmp_path: Path) -> None:
    """Cancelling what runs in the block kills the program before the cancellation goes on."""
    started = asyncio.Event()
    pids: list[int] = []

    async def work() -> None:
        async with running(["sleep", "1008"], ENVIRONMENT, tmp_path) as process:
            pids.append(process.pid)
            started.set()
            await process.wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(pids[0])


async def test_missing_program(tmp_path: Path) -> None:
    """A program that is not there is an OSError that names it."""
    with pytest.raises(FileNotFoundError, match="missing"):
        async with running([str(tmp_path / "missing")], ENVIRONMENT, tmp_path):
            pass


async def test_program_goes_on_without_what_it_started(tmp_path: Path) -> None:
    """What a program has started can be ended but for some of it, wherever it went; the program goes on."""
    script = (
        "sleep 1009 & echo; read go; sleep 1010 & setsid sleep 1011 & sh -c 'sleep 1012 &'; echo; read end; echo bye"
    )
    children = OwnChildren()
    program = await Program.start(["sh", "-c", script], ENVIRONMENT, tmp_path)
    try:
        stdin, stdout = program.process.stdin, program.process.stdout
        assert stdin is not None and stdout is not None
        await stdout.readline()
        kept = program.started()
        assert len(kept) == 1
        stdin.write(b"go\n")
        await stdout.readline()
        assert len(program.started()) == 4
        await program.end_started(kept)
        assert program.started() == kept
        stdin.write(b"end\n")
        assert await stdout.readline() == b"bye\n"
    finally:
        await program.end()
    assert children.alive() == []


async def test_program_beside_another(tmp_path: Path) -> None:
    """Ending a program that leaves nothing behind does not touch what another one, which may, has started."""
    first = await Program.start(["sh", "-c", "setsid sleep 1013 & echo; read end"], ENVIRONMENT, tmp_path)
    try:
        assert first.process.stdout is not None
        await first.process.stdout.readline()
        async with running(["true"], ENVIRONMENT, tmp_path, orphans=False) as second:
            await second.wait()
        assert len(first.started()) == 1
    finally:
        await first.end()


async def test_adopted_ones_are_buried(tmp_path: Path) -> None:
    """Orphans that end by themselves while a program lives do not stay as dead processes."""
    children = OwnChildren()
    program = await Program.start(["sh", "-c", "(true &) ; echo; read end"], ENVIRONMENT, tmp_path)
    try:
        assert program.process.stdout is not None
        await program.process.stdout.readline()
        async with asyncio.timeout(30):
            while len(children.alive()) > 1:
                reap_adopted()
                await asyncio.sleep(0.01)
    finally:
        await program.end()
