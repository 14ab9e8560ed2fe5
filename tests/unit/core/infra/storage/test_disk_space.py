"""Errors that say that a disk, a quota or a file size limit is full, and those that do not."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.infra.storage import disk_space
from hive_core.infra.storage.disk_space import (
    disk_full,
    disk_full_as_error,
    has_room,
    is_lack_of_space,
    reports_lack_of_space,
)

LACKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def raised_by_sqlite(code: int) -> sqlite3.OperationalError:
    """An error as sqlite3 raises it, with SQLite's extended code."""
    error = sqlite3.OperationalError("disk trouble")
    error.sqlite_errorcode = code
    return error


@given(st.sampled_from(sorted(errno.errorcode)))
def test_a_full_disk_a_quota_and_a_file_size_limit_are_the_same(number: int) -> None:
    """Every error number is classified, and so are the words of strerror(3) for it in a program's output."""
    lacks = number in LACKS
    assert is_lack_of_space(OSError(number, os.strerror(number), "/x")) is lacks
    assert is_lack_of_space(OSError(number, os.strerror(number))) is lacks
    assert reports_lack_of_space(f"fatal: write error: {os.strerror(number)}\n") is lacks
    # copytree collects the errors as words.
    assert is_lack_of_space(shutil.Error([("a", "b", str(OSError(number, os.strerror(number), "a")))])) is lacks
    if lacks:
        with pytest.raises(HiveError) as refusal, disk_full_as_error("write it"):
            raise OSError(number, os.strerror(number))
        assert (refusal.value.code, refusal.value.status) == ("disk_full", 507)
        assert is_lack_of_space(refusal.value)
    else:
        with pytest.raises(OSError), disk_full_as_error("write it"):
            raise OSError(number, os.strerror(number))


def test_room_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial leaves nothing behind; only a lack of space counts, and none that the trial cannot see."""
    assert has_room(tmp_path) and has_room(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        assert not has_room(tmp_path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        assert has_room(tmp_path) and not has_room(tmp_path, 990_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    assert list(tmp_path.iterdir()) == []


async def test_many_wait_for_room_with_one_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody who waits goes on when there is room again, after the same trials."""
    answers = [False, False, True]
    monkeypatch.setattr(disk_space, "has_room", lambda _: answers.pop(0))
    monkeypatch.setattr(disk_space, "_POLL_SECONDS", 0.0)
    watch = disk_space.RoomWatch(tmp_path)
    async with asyncio.timeout(10):
        await asyncio.gather(*(watch.wait() for _ in range(50)))
    assert answers == []
    await watch.close()


def test_errors_of_other_kinds_are_not_taken_for_a_full_disk() -> None:
    """Refusals with other codes, errors without a number and other errors of SQLite are no lack of space."""
    assert is_lack_of_space(disk_full("write it"))
    assert is_lack_of_space(raised_by_sqlite(sqlite3.SQLITE_FULL))
    for other in (
        HiveError("database_full", "the limit is reached", status=507),
        OSError("no number"),
        TimeoutError(),
        ValueError("No space left on device"),
        raised_by_sqlite(sqlite3.SQLITE_IOERR_READ),
        raised_by_sqlite(sqlite3.SQLITE_CORRUPT),
        sqlite3.OperationalError("without a code"),
    ):
        assert not is_lack_of_space(other), other
    assert not reports_lack_of_space("", -signal.SIGKILL)


def test_real_writers_beyond_a_limit_are_recognised(tmp_path: Path) -> None:
    """The kernel's own EFBIG, and the signal that ends a program which does not ignore it."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY}))"
    write = f"{limited}; open({str(tmp_path / 'file')!r}, 'wb', 0).write(b'x' * 4096 * 2)"
    # Python ignores the signal: a write up to the limit is cut short, and the next one fails.
    said = subprocess.run([sys.executable, "-c", f"{write}; {write}"], capture_output=True, text=True, check=False)
    assert said.returncode == 0
    again = f"{limited}; f = open({str(tmp_path / 'file')!r}, 'ab', 0); f.write(b'x')"
    said = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=False)
    assert reports_lack_of_space(said.stderr, said.returncode), said
    killed = f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); {again}"
    said = subprocess.run([sys.executable, "-c", killed], capture_output=True, text=True, check=False)
    assert said.returncode == -signal.SIGXFSZ
    assert reports_lack_of_space(said.stderr, said.returncode)
