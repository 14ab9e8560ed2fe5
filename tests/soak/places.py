"""The room on its disk and the time of its clock that the soak takes away from a hive and gives back."""

from __future__ import annotations

import asyncio
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DISK_BYTES = 1536 * 1024 * 1024


class Disk:
    """A small disk that can be filled; `problem` says why there is none, and then nothing can be filled."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        self._ballast = path / "ballast"

    async def fill(self) -> None:
        """Take all the room there is."""
        await asyncio.to_thread(self._fill)

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)

    def _fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1024 * 1024, 4096):
                with suppress(OSError):
                    while True:
                        ballast.write(b"\0" * size)


@contextmanager
def small_disk(path: Path) -> Iterator[Disk]:
    """Mount a file system in memory on `path`; without the right to do that, `path` is a plain directory."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "hive-soak", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    problem = (done.stderr.strip() or "mount failed") if done.returncode else ""
    try:
        yield Disk(path, problem)
    finally:
        if not problem:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


class Clock:
    """The daemon's wall clock, which a preloaded library moves; the monotonic clock goes on.

    `problem` says why it cannot be moved, and then `environment` is empty. Harnesses keep the machine's clock.
    """

    def __init__(self, place: Path) -> None:
        self.offset = 0
        self.environment: dict[str, str] = {}
        """Variables for the daemon."""
        self._file = place / "clock"
        self.problem = self._compile(place / "clock.so")
        self.set(0)

    def set(self, offset: int) -> None:
        """Set the clock to so many seconds after the machine's."""
        self.offset = offset
        # In place, because the daemon has mapped the file.
        with self._file.open("r+b" if self._file.exists() else "wb", buffering=0) as file:
            file.write(struct.pack("=q", offset))

    def _compile(self, library: Path) -> str:
        source = Path(__file__).with_name("clock.c")
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
        if shutil.which("cc") is None:
            return "there is no C compiler (cc)"
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"clock.c was not compiled: {done.stderr.strip()}"
        self.environment = {"LD_PRELOAD": str(library), "TEST_CLOCK_FILE": str(self._file)}
        return ""


def jump(dice: random.Random, now: int) -> int:
    """Return another offset in seconds: a small step or a large one, forward or back, within six hours."""
    step = dice.choice([1, 5, 30, 120, 900, 3_600, 7_200])
    offset = now + dice.choice([-1, 1]) * dice.randint(1, step)
    return offset if abs(offset) <= 6 * 3_600 else 0
