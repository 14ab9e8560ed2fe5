"""The memory and the tasks of all processes in a sandbox, measured through its own /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_MOST_READ = 4_096


class SandboxProcesses:
    """The processes of one PID namespace with a /proc of its own, seen from outside.

    Only the namespace's processes are in that /proc, also those that have left their group, session or parent.
    """

    def __init__(self, init: int) -> None:
        """`init` is the process id, on the host, of the first process of the namespace. Raises OSError."""
        self._proc = os.open(Path(f"/proc/{init}/root/proc"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the descriptor; no measurement may be in progress."""
        os.close(self._proc)

    def measure(self, most_tasks: int) -> tuple[int, int]:
        """Return the bytes of memory and the number of tasks. Blocks. Only tasks are counted beyond `most_tasks`.

        Memory that processes share is counted once at most: pages of files are left out, and of the other shared pages
        those of the process that has the most.
        """
        try:
            names = os.listdir(self._proc)  # noqa: PTH208 - a descriptor
            numbers = [name for name in names if name.isdecimal()]
        except OSError:
            return 0, 0  # It has ended.
        if len(numbers) > most_tasks:
            return 0, len(numbers)
        own, shared, tasks = 0, 0, 0
        for number in numbers:
            fields = self._fields(number)
            own += fields.get(b"RssAnon", 0)
            shared = max(shared, fields.get(b"RssShmem", 0))
            tasks += fields.get(b"Threads", 0)
        return (own + shared) * 1024, tasks

    def _fields(self, number: str) -> dict[bytes, int]:
        """Return the numbers in the status of a process: kilobytes, or a count; none if it has ended."""
        with suppress(OSError):
            descriptor = os.open(f"{number}/status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
            try:
                lines = os.read(descriptor, _MOST_READ).split(b"\n")
            finally:
                os.close(descriptor)
            # The name of a process is in the first line, with newlines escaped.
            pairs = [line.partition(b":") for line in lines[1:]]
            return {key: int(words[0]) for key, _, rest in pairs if (words := rest.split()) and words[0].isdigit()}
        return {}
