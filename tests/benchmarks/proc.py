"""What the kernel says of a process (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory (VmRSS), in MB of 2**20 bytes; pages shared with others count in full."""
    return _field(Path(f"/proc/{pid}/status"), "VmRSS:") / 1024


def proportional_mb(pid: int) -> float:
    """Memory in which a page shared by n processes counts as 1/n (PSS), in MB of 2**20 bytes."""
    return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") / 1024


def wakeups(pid: int) -> int:
    """How often the threads of the process have gone to sleep so far, and so how often they were woken."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(_field(task / "status", "voluntary_ctxt_switches:") for task in tasks)


def children(pid: int) -> list[int]:
    """The processes that this one has started, or has adopted, and that are still there."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def parent(pid: int) -> int:
    """The process that has started this one, or has adopted it."""
    return _field(Path(f"/proc/{pid}/status"), "PPid:")


def command(pid: int) -> str:
    """The name of the program that the process runs."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def cpu_seconds(pid: int) -> float:
    """Processor time that the process has used so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _field(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LookupError(f"{file} has no line {name}")
