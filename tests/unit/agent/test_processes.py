"""What a turn's program leaves behind: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import psutil
import pytest

from hive_agent.processes import running

ENVIRONMENT = {"PATH": os.environ["PATH"]}


async def test_everything_started_is_killed(tmp_path: Path) -> None:
    """The program, its children and those in sessions of their own end with the block; other children go on."""
    other = await asyncio.create_subprocess_exec("sleep", "1003")
    try:
        script = "setsid sleep 1004 & (setsid sh -c 'sleep 1005 & sleep 1006') & echo ready; sleep 1007"
        async with running(["sh", "-c", script], ENVIRONMENT, tmp_path) as process:
            assert process.stdout is not None
            await process.stdout.readline()
            started = psutil.Process(process.pid).children(recursive=True)
        assert process.returncode == -9
        assert started
        assert [child.pid for child in psutil.Process().children(recursive=True)] == [other.pid]
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
