"""The memory, the tasks and the unnamed files of all processes in a sandbox, measured through its own /proc."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hive_core.runtimes.checks.unnamed_files import find_unnamed, memory_device

_MOST_READ = 4_096
_MOST_MAPS = 16 * 1024 * 1024
_CHUNK = 1024 * 1024
_MAPPING = re.compile(rb"[0-9a-f]+-[0-9a-f]+ \S+ [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) (\d+)(?: |$)")
_RESERVE_BYTES = 512 * 1024**2
_RESERVE_SHARE = 50


@dataclass(frozen=True)
class SandboxUse:
    """Bytes of memory, the number of tasks, and bytes on the disk in files that are deleted and open.

    `hidden` is true if a process keeps the daemon from seeing what it has open.
    """

    memory: int = 0
    tasks: int = 0
    deleted: int = 0
    hidden: bool = False


class SandboxProcesses:
    """The processes of one PID namespace with a /proc of its own, seen from outside.

    Only the namespace's processes are in that /proc, also those that have left their group, session or parent.
    """

    def __init__(self, init: int) -> None:
        """`init` is the process id, on the host, of the first process of the namespace.

        Raises FileNotFoundError or ProcessLookupError if it has ended, and PermissionError if it cannot be seen.
        """
        self._proc = os.open(Path(f"/proc/{init}/root/proc"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._hidden: set[str] = set()

    def close(self) -> None:
        """Close the descriptor; no measurement may be in progress."""
        os.close(self._proc)

    def count(self) -> int:
        """Return the number of processes, 0 if all have ended. Blocks shortly."""
        return len(self._numbers())

    def measure(self, most_memory: int, most_tasks: int) -> SandboxUse:
        """Measure all processes. Blocks. Only tasks are counted beyond `most_tasks`. Raises TooManyOpenFiles.

        Pages of files on disks are left out. Memory that processes share counts once; the time that this takes to find
        out is spent only if it decides on `most_memory`.
        """
        numbers = self._numbers()
        if len(numbers) > most_tasks:
            return SandboxUse(tasks=len(numbers))
        tasks, swapped, own, shared = 0, 0, dict[str, int](), dict[str, int]()
        for number in numbers:
            fields = self._fields(f"{number}/status")
            own[number] = fields.get(b"RssAnon", 0)
            swapped += fields.get(b"VmSwap", 0)
            tasks += fields.get(b"Threads", 0)
            if pages := fields.get(b"RssShmem", 0):
                shared[number] = pages
        unnamed = find_unnamed(self._proc, numbers)
        pages = swapped + sum(own.values()) + sum(shared.values())
        memory = pages * 1024 + sum(unnamed.in_memory.values())
        if memory > most_memory:
            pages = swapped + sum(self._share(number, pages) for number, pages in own.items())
            memory = pages * 1024 + self._shared(list(shared), unnamed.in_memory)
        # A process that is just being replaced by another program may be hidden for a moment.
        hidden = bool(unnamed.hidden & self._hidden)
        self._hidden = unnamed.hidden
        return SandboxUse(memory, tasks, unnamed.on_disk, hidden)

    def _share(self, number: str, most: int) -> int:
        """Return the kilobytes that a process has of its own, with its share of what forks have in common."""
        return min(most, self._fields(f"{number}/smaps_rollup").get(b"Pss_Anon", most))

    def _shared(self, numbers: Sequence[str], opened: Mapping[int, int]) -> int:
        """Return the bytes of memory with an inode: of what is open all, and of the rest what is mapped."""
        mapped, swapped = Counter[int](), dict[int, int]()
        for number in numbers:
            for inode, pages, out in self._mappings(number):
                mapped[inode] += pages * 1024
                swapped[inode] = max(swapped.get(inode, 0), out * 1024)
        inodes = opened.keys() | mapped.keys()
        return sum(max(opened.get(inode, 0), mapped[inode] + swapped.get(inode, 0)) for inode in inodes)

    def _mappings(self, number: str) -> Iterator[tuple[int, int, int]]:
        """Yield the inode, the kilobytes of the process's share, and those in the swap, of each mapping of memory."""
        device = memory_device()
        wanted = (os.major(device), os.minor(device))
        inode, pages = None, 0
        for line in self._read(f"{number}/smaps", _MOST_MAPS).split(b"\n"):
            if (found := _MAPPING.match(line)) is not None:
                inode = int(found[3]) if (int(found[1], 16), int(found[2], 16)) == wanted else None
            elif inode is not None:
                key, _, rest = line.partition(b":")
                if key == b"Pss":
                    pages = int(rest.split()[0])
                elif key == b"Swap":
                    yield inode, pages, int(rest.split()[0])

    def _numbers(self) -> list[str]:
        try:
            names = os.listdir(self._proc)  # noqa: PTH208 - a descriptor
        except OSError:
            return []  # All have ended.
        return [name for name in names if name.isdecimal()]

    def _fields(self, name: str) -> dict[bytes, int]:
        """Return the numbers in a file about a process: kilobytes, or a count; none if it has ended."""
        lines = self._read(name, _MOST_READ).split(b"\n")
        # The name of a process may be in the first line, with newlines escaped.
        pairs = [line.partition(b":") for line in lines[1:]]
        return {key: int(words[0]) for key, _, rest in pairs if (words := rest.split()) and words[0].isdigit()}

    def _read(self, name: str, most: int) -> bytes:
        """Return the beginning of a file in /proc, empty if its process has ended."""
        content = bytearray()
        with suppress(OSError):
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
            try:
                while len(content) < most and (chunk := os.read(descriptor, min(_CHUNK, most - len(content)))):
                    content += chunk
            finally:
                os.close(descriptor)
        return bytes(content)


@dataclass(frozen=True)
class FreeMemory:
    """The bytes of memory of this machine that programs can still get without swapping, and all of it."""

    available: int
    total: int

    @property
    def reserve(self) -> int:
        """The part that no check may use: 512 MiB, or 2 % of the memory if that is less."""
        return min(_RESERVE_BYTES, self.total // _RESERVE_SHARE)


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> FreeMemory:
    """Measure the memory of this machine: proc_meminfo(5). Blocks."""
    lines = (line.partition(":") for line in meminfo.read_text().splitlines())
    values = {key: int(rest.split()[0]) * 1024 for key, _, rest in lines if key in ("MemTotal", "MemAvailable")}
    total = values.get("MemTotal", 0)
    return FreeMemory(values.get("MemAvailable", total), total)
