"""The limit of what a build writes to the disk in all."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.checks.disk_use import FreeSpace, free_space, used_bytes
from hive_core.runtimes.nixos.build.unit import disk_limit
from hive_core.runtimes.nixos.build.unit.disk_limit import limit_disk, limit_store

MIB = 1024 * 1024


async def _forever() -> None:
    await asyncio.Event().wait()


async def test_directories_without_end_end_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories that are too deep to be measured end the build."""
    monkeypatch.setattr(disk_limit, "_SECONDS", 0.01)
    Path(tmp_path, *"d" * 300).mkdir(parents=True)  # noqa: ASYNC240
    with pytest.raises(BuildFailed, match="256 directories in one another"):
        await limit_disk(_forever(), [tmp_path], MIB)


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


GIB = 1024 * MIB
STORE = Path("/nix/store")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The free space of a store of 100 GiB at each measurement in MiB; the last one stays."""
    left: list[int] = []

    def measure(path: Path) -> FreeSpace:
        assert path == STORE
        return FreeSpace((left.pop(0) if len(left) > 1 else left[0]) * MIB, 100 * GIB)

    monkeypatch.setattr(disk_limit, "free_space", measure)
    monkeypatch.setattr(disk_limit, "_SECONDS", 0.01)
    return left


@pytest.mark.parametrize(
    ("measured", "why"),
    [
        ([9_000, 8_950, 8_999, 8_900], "has shrunk by 100 MiB, more than the 64 MiB of nixos.build_disk"),
        ([1_030, 1_025, 1_023], "has 1,023 MiB of free space, .* less than 1,024 MiB"),
    ],
)
async def test_an_evaluation_that_fills_the_store_is_ended(free: list[int], measured: list[int], why: str) -> None:
    """It has ended when the error is raised, which says what was measured."""
    free += measured
    ended = asyncio.Event()

    async def evaluate() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.set()

    with pytest.raises(BuildFailed, match=why):
        await limit_store(evaluate(), STORE, 64 * MIB)
    assert ended.is_set() and len(free) == 1


async def test_no_evaluation_begins_below_the_reserve(free: list[int]) -> None:
    """Short evaluations, which are never measured while they run, use up no reserve."""
    free += [1_023]
    begun = False

    async def evaluate() -> None:
        nonlocal begun
        begun = True

    with pytest.raises(BuildFailed, match="make room"):
        await limit_store(evaluate(), STORE, 64 * MIB)
    assert not begun
    free[:] = [1_024]
    await limit_store(evaluate(), STORE, 64 * MIB)
    assert begun


async def test_others_may_make_room_and_need_some(free: list[int]) -> None:
    """An evaluation goes on while the free space grows, or shrinks by no more than the limit."""
    free += [9_000, 9_500, 8_936]

    async def evaluate() -> None:
        while len(free) > 1:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

    await limit_store(evaluate(), STORE, 64 * MIB)
    assert free == [8_936]


def test_the_reserve_of_a_small_file_system_is_a_part_of_it(tmp_path: Path) -> None:
    """The free space is that of the file system; 2 % of a small one are reserved."""
    assert FreeSpace(0, 10 * GIB).reserve == 10 * GIB // 50
    found, system = free_space(tmp_path), os.statvfs(tmp_path)
    assert found.total == system.f_blocks * system.f_frsize and 0 <= found.available <= found.total
