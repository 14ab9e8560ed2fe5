"""The limit of what a build writes to the disk in all."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.nixos.build.unit import disk_limit
from hive_core.runtimes.nixos.build.unit.disk_limit import limit_disk, used_bytes

MIB = 1024 * 1024


def test_all_files_are_counted_and_no_link_is_followed(tmp_path: Path) -> None:
    """Files at any depth count, what a link leads to does not, and what is not there takes nothing."""
    (tmp_path / "elsewhere").write_bytes(b"x" * 8 * MIB)
    output = tmp_path / "output"
    (output / "a/b").mkdir(parents=True)
    (output / "a/b/file").write_bytes(b"x" * 2 * MIB)
    (output / "link").symlink_to(tmp_path / "elsewhere")
    (output / "directory").symlink_to(tmp_path)
    os.mkfifo(output / "pipe")
    assert 2 * MIB <= used_bytes([output, tmp_path / "missing", output / "link"]) < 3 * MIB


def test_directories_without_end_end_the_build(tmp_path: Path) -> None:
    """What is too deep to be measured is not left out."""
    Path(tmp_path, *"d" * 300).mkdir(parents=True)
    with pytest.raises(BuildFailed, match="256 directories in one another"):
        used_bytes([tmp_path])


async def test_a_build_that_writes_too_much_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build is cancelled and has ended when the error is raised."""
    monkeypatch.setattr(disk_limit, "_SECONDS", 0.01)
    ended = asyncio.Event()

    async def build() -> None:
        try:
            for number in range(1_000):
                await asyncio.to_thread((tmp_path / str(number)).write_bytes, b"x" * MIB)
                await asyncio.sleep(0.005)
        finally:
            await asyncio.sleep(0.01)
            ended.set()

    with pytest.raises(BuildFailed, match="more than 3 MiB"):
        await limit_disk(build(), [tmp_path], 3 * MIB)
    assert ended.is_set()
    assert used_bytes([tmp_path]) < 100 * MIB


async def test_a_build_within_its_limit_ends_as_it_does(tmp_path: Path) -> None:
    """The end of the build, its failure and its cancellation are passed on."""

    async def fail() -> None:
        raise BuildFailed("why")

    async def end() -> None:
        await asyncio.sleep(0)

    await limit_disk(end(), [tmp_path], MIB)
    with pytest.raises(BuildFailed, match="why"):
        await limit_disk(fail(), [tmp_path], MIB)
    ended = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    task = asyncio.create_task(limit_disk(wait(), [tmp_path], MIB))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
