"""What takes space and has no name: files in memory, and deleted files that are open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hive_core.runtimes.checks import memory_use, unnamed_files
from hive_core.runtimes.checks.memory_use import free_memory
from hive_core.runtimes.checks.unnamed_files import TooManyOpenFiles, UnnamedFiles, find_unnamed, memory_device
from hive_core.runtimes.nixos.build.unit import unit_files

MIB = 1024 * 1024


@contextmanager
def _proc() -> Iterator[int]:
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield proc
    finally:
        os.close(proc)


def _own() -> UnnamedFiles:
    with _proc() as proc:
        return find_unnamed(proc, [str(os.getpid()), "4194304", str(os.getpid())])


@contextmanager
def _unnamed(tmp_path: Path) -> Iterator[int]:
    """Keep a file of 3 MiB in memory open, and one of 2 MiB that is deleted; yields the inode of the first."""
    memory = os.memfd_create("file")
    os.write(memory, b"x" * 3 * MIB)
    again = os.dup(memory)
    with (tmp_path / "deleted").open("wb") as file, (tmp_path / "kept").open("wb") as kept:
        file.write(b"x" * 2 * MIB)
        kept.write(b"x" * MIB)
        file.flush()
        os.fsync(file)
        (tmp_path / "deleted").unlink()
        yield os.fstat(memory).st_ino
    os.close(memory)
    os.close(again)


def test_unnamed_files_count_once(tmp_path: Path) -> None:
    """A file in memory and a deleted one count once, however often they are open; files with a name do not."""
    before = _own()
    with _unnamed(tmp_path) as inode:
        found = _own()
    assert 3 * MIB <= found.in_memory[inode] < 4 * MIB
    assert 2 * MIB <= found.on_disk - before.on_disk < 3 * MIB
    assert inode not in _own().in_memory


def test_open_files_without_end_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """More open files than can be looked at in time are an error."""
    monkeypatch.setattr(unnamed_files, "MOST_OPEN", 2)
    with pytest.raises(TooManyOpenFiles):
        _own()


def test_deleted_files_of_a_unit_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a unit has deleted and keeps open is found by its control group; a unit that has ended has nothing."""
    monkeypatch.setattr(unit_files, "_GROUPS", (tmp_path / "none", tmp_path))
    inner = tmp_path / "hive-check-web-1.service/inner"
    inner.mkdir(parents=True)
    (inner.parent / "cgroup.procs").write_text("")
    (inner / "cgroup.procs").write_text(f"{os.getpid()}\n")
    before = unit_files.deleted_bytes("hive-check-web-1.service")
    with _unnamed(tmp_path):
        assert unit_files.deleted_bytes("hive-check-web-1.service") - before >= 2 * MIB
    assert unit_files.deleted_bytes("hive-check-web-2.service") == 0


def test_shared_memory_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is open and mapped by several processes counts once, and memory that is only mapped counts, too."""
    device = f"{os.major(memory_device()):02x}:{os.minor(memory_device()):02x}"
    mapping = "7f00-7f10 rw-s 00000000 {} {}                    /memfd:x (deleted)\nPss: {} kB\nSwap: {} kB\n"
    maps = {
        "1": mapping.format(device, 10, 600, 0)
        + mapping.format(device, 11, 100, 0)
        + mapping.format("08:01", 12, 7, 0),
        "2": mapping.format(device, 10, 400, 0) + mapping.format(device, 11, 100, 50),
    }
    processes = object.__new__(memory_use.SandboxProcesses)
    monkeypatch.setattr(processes, "_read", lambda name, _: maps[name.partition("/")[0]].encode())
    assert processes._shared(["1", "2"], {10: 2_000 * 1024, 13: 1024}) == (2_000 + 250 + 1) * 1024


def test_the_reserve_of_memory_is_a_part_of_the_machines(tmp_path: Path) -> None:
    """The reserve is small on a small machine, and a machine that does not tell what is free has all of it."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        1000000 kB\nMemFree: 1 kB\nMemAvailable:   19999 kB\n")
    free = free_memory(meminfo)
    assert free.available < free.reserve == 20_480_000
    meminfo.write_text("MemTotal:      100000000 kB\n")
    assert (free_memory(meminfo).reserve, free_memory(meminfo).available) == (512 * MIB, 100_000_000 * 1024)
