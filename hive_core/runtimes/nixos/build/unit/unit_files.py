"""The space of files that the processes of a unit have deleted and keep open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hive_core.runtimes.checks.unnamed_files import find_unnamed

_GROUPS = tuple(Path("/sys/fs/cgroup", name, "system.slice") for name in ("", "unified", "systemd"))
"""The directory of the control groups of units: with version 2 alone, beside version 1, and of systemd's own tree."""
_PROCESSES = "cgroup.procs"


def deleted_bytes(unit: str) -> int:
    """Return the bytes on the disk in files that a unit has deleted and keeps open, 0 if it has ended. Blocks.

    Raises TooManyOpenFiles. The memory of the unit's files in memory is limited by the kernel.
    """
    group = next((path for parent in _GROUPS if (path := parent / unit).is_dir()), None)
    if group is None:
        return 0
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return find_unnamed(proc, _processes(group)).on_disk
    finally:
        os.close(proc)


def _processes(group: Path) -> Iterator[str]:
    for directory, _, files in os.walk(group):
        if _PROCESSES in files:
            with suppress(OSError):  # The group has gone.
                yield from Path(directory, _PROCESSES).read_text().split()
