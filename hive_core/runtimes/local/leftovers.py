"""Processes of agents that have outlived the daemon that started them.

bwrap ends with its parent, but not if that was killed before bwrap could ask the kernel for it. Of a plain harness, the
processes that it gave sessions of their own remain.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

_SWEEPS = 100
_PAUSE_SECONDS = 0.02


def kill_leftovers(state_dir: Path, run_dir: Path) -> int:
    """Kill every process that an earlier daemon on these directories has left; returns how many there were.

    The caller must hold the lock of the state directory, and have started no agent yet.
    """
    spared = _ancestors()
    killed: set[int] = set()
    for _ in range(_SWEEPS):
        found = {pid for pid in _own_processes() - spared if _kill_leftover(pid, [state_dir, run_dir])}
        killed |= found
        if not found:
            break
        time.sleep(_PAUSE_SECONDS)
    if killed:
        _log.warning("processes that outlived an earlier daemon are killed", count=len(killed))
    return len(killed)


def _kill_leftover(pid: int, directories: Sequence[Path]) -> bool:
    with suppress(OSError):
        # Opened before the process is looked at, so that no later one with the same id is killed.
        pidfd = os.pidfd_open(pid)
        try:
            if is_leftover(_words(pid, "cmdline"), _words(pid, "environ"), directories):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return True
        finally:
            os.close(pidfd)
    return False


def is_leftover(arguments: Sequence[str], environment: Sequence[str], directories: Sequence[Path]) -> bool:
    """Return True for a sandbox of which a directory is below `directories`, and for what a plain harness started."""
    below = [f"{directory}/" for directory in directories]
    if arguments and Path(arguments[0]).name == "bwrap":
        return "--die-with-parent" in arguments and any(word.startswith(path) for word in arguments for path in below)
    # The sandboxed have other paths, and end with their sandbox.
    marked = any(variable.startswith("HIVE_PARENT_PID=") for variable in environment)
    return marked and any(variable.startswith(f"HIVE_AGENT_RUN={path}") for variable in environment for path in below)


def _own_processes() -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and entry.stat().st_uid == os.geteuid():
                found.add(int(entry.name))
    return found


def _ancestors() -> set[int]:
    """Return this process and those that it comes from, as the daemon itself may run in a sandbox."""
    found, pid = set(), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])  # Behind the name, which may contain anything.
    return found


def _words(pid: int, file: str) -> list[str]:
    return Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="surrogateescape").split("\0")
