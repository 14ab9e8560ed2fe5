"""The resources of a hive: descriptors, memory, processes and directories; and those that a soak has added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks import proc
from tests.helpers.real_daemon import Daemon

DESCRIPTORS = 40
"""More descriptors than before that are no leak: connections and repositories that are in use at the moment."""
MEMORY_MB = 64.0
"""More memory than before that is no leak: messages and proposals have come, and the allocator keeps pages."""
HARNESS_MB = 16.0
_PROCESSES_OF_AN_AGENT = 3
"""bwrap, the first process of the sandbox, and the harness."""


@dataclass(frozen=True)
class Holdings:
    """The resources that a hive at rest holds."""

    descriptors: Counter[str]
    memory_mb: float
    harness_mb: float
    """The most that a harness takes (VmRSS)."""
    threads: int
    processes: int


def holdings(daemon: Daemon, pids: Iterable[int]) -> Holdings:
    """Read what the daemon holds; `pids` are the harnesses."""
    process = psutil.Process(daemon.pid)
    return Holdings(
        _descriptors(daemon.pid),
        proc.resident_mb(daemon.pid),
        max(proc.resident_mb(pid) for pid in pids),
        process.num_threads(),
        len(process.children(recursive=True)),
    )


def growth(before: Holdings, after: Holdings) -> Iterator[str]:
    """Yield what a hive holds that it did not hold before, with the same agents."""
    more = after.descriptors - before.descriptors
    if after.descriptors.total() > before.descriptors.total() + DESCRIPTORS:
        yield f"the daemon leaks descriptors: {dict(more.most_common(8))}"
    if after.memory_mb > before.memory_mb + MEMORY_MB:
        yield f"the daemon grew from {before.memory_mb:.0f} to {after.memory_mb:.0f} MB"
    if after.harness_mb > before.harness_mb + HARNESS_MB:
        yield f"a harness grew from {before.harness_mb:.0f} to {after.harness_mb:.0f} MB"
    if after.processes > before.processes + _PROCESSES_OF_AN_AGENT:
        yield f"there were {before.processes} processes, and now there are {after.processes}"


def left_over(daemon: Daemon, agents: set[str], purged: set[str]) -> Iterator[str]:
    """Yield files and directories of a hive at rest that belong to nothing; `purged` agents may have none."""
    for name in ("scratch", "trash"):
        found = _names(daemon.state_dir / name) | _names(daemon.run_dir / name)
        if found:
            yield f"{len(found)} entries are left in {name}: {sorted(found)[:5]}"
    if extra := _names(daemon.run_dir / "agents") - agents:
        yield f"run directories of agents that are gone: {sorted(extra)}"
    if extra := {name.removesuffix(".sock") for name in _names(daemon.run_dir / "views")} - agents:
        yield f"view sockets of agents that are gone: {sorted(extra)}"
    for place in ("agents", "closures", "applied", "logs/builds"):
        names = {name.removesuffix(".git") for name in _names(daemon.state_dir / place)}
        if extra := names & purged:
            yield f"purged agents are left in {place}: {sorted(extra)}"


def strays(home: Path) -> Iterator[str]:
    """Yield processes that still refer to the hive's directory after the daemon has ended."""
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(home) in line and "pytest" not in line:
            yield f"a process outlived the hive: {line[:120]}"


def _names(place: Path) -> set[str]:
    return {entry.name for entry in place.iterdir()} if place.is_dir() else set()


def _descriptors(pid: int) -> Counter[str]:
    """Count the open files of a process by what they are."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        found[target.partition(":")[0] if ":" in target else Path(target).name] += 1
    return found
