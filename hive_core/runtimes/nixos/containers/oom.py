"""Reports that a container runs out of memory, without polling.

The kernel then kills a process of the container. systemd reports that only for the container's first process, and not
at all with control groups of version 1. So the control group itself is watched: its
`memory.events` (v2, Documentation/admin-guide/cgroup-v2.rst), or `memory.oom_control` (v1, cgroup-v1/memory.rst).
"""

from __future__ import annotations

import asyncio
import os
import re
import select
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


class OomWatcher:
    """Watches one control group; `tell` is called on the loop for each process in it that is killed for lack of memory.

    Raises OSError if it cannot be watched, for example without a memory controller.
    """

    def __init__(self, control_group: str, on_kill: Callable[[], None], cgroups: Path = _CGROUPS) -> None:
        self._on_kill = on_kill
        self._loop = asyncio.get_running_loop()
        relative = control_group.lstrip("/")
        events = cgroups / relative / "memory.events"
        self._listener: select.epoll | None = None
        self._file = -1
        try:
            if (cgroups / "cgroup.controllers").exists():
                self._listen_v2(events)
            else:
                self._listen_v1(cgroups / "memory" / relative)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop watching; may be called again."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _listen_v2(self, events: Path) -> None:
        self._file = os.open(events, os.O_RDONLY | os.O_CLOEXEC)
        known = _kills(self._file)
        # A change is reported as POLLPRI, for which event loops cannot wait. An epoll can, and is readable then.
        self._listener = select.epoll()
        self._listener.register(self._file, select.EPOLLPRI)

        def changed() -> None:
            nonlocal known
            try:
                now = _kills(self._file)
            except OSError:  # The container no longer exists.
                self.close()
                return
            if now > known:
                self._on_kill()
            known = now

        self._loop.add_reader(self._listener.fileno(), changed)

    def _listen_v1(self, directory: Path) -> None:
        self._file = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        control = os.open(directory / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            (directory / "cgroup.event_control").write_text(f"{self._file} {control}")
        finally:
            os.close(control)

        def changed() -> None:
            with suppress(BlockingIOError):
                os.eventfd_read(self._file)
            if directory.is_dir():
                self._on_kill()
            else:  # The removal of the group is reported in the same way.
                self.close()

        self._loop.add_reader(self._file, changed)


def _kills(file: int) -> int:
    found = re.search(rb"^oom_kill ([0-9]+)$", os.pread(file, 4096, 0), re.MULTILINE)
    return int(found[1]) if found else 0
