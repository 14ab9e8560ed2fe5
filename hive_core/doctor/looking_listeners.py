"""Looks at who listens on TCP ports of the host's own network, through /proc (proc_net(5), proc_pid_fd(5))."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from hive_core.doctor.ports import Listener

_LISTENS = "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def listeners(ports: Collection[int], root: Path = Path("/")) -> dict[int, list[Listener]]:
    """Those who listen on the ports. `root` is where /proc is found, for tests."""
    proc = root / "proc"
    inodes: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        for port, inode in _listening(_text(proc / "net" / table)):
            if port in ports:
                inodes[inode] = port
    found: defaultdict[int, list[Listener]] = defaultdict(list)
    if not inodes:
        return found
    seen = set()
    for pid, inode in _holders(proc, inodes):
        seen.add(inode)
        name, cgroup = _text(proc / str(pid) / "comm").strip(), _text(proc / str(pid) / "cgroup")
        found[inodes[inode]].append(Listener(name or "a process", pid, cgroup))
    for inode in inodes.keys() - seen:
        found[inodes[inode]].append(Listener())
    return found


def _listening(table: str) -> Iterator[tuple[int, str]]:
    """Port and inode of every line of a table of sockets that is about a listening one."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENS:
            yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _holders(proc: Path, inodes: Collection[str]) -> Iterator[tuple[int, str]]:
    """The first process that holds each of the sockets, as far as this user may see."""
    left = set(inodes)
    for directory in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError):  # It has ended, or is another user's.
            for descriptor in (directory / "fd").iterdir():
                with suppress(OSError):
                    held = _SOCKET.fullmatch(str(descriptor.readlink()))
                    if held and held[1] in left:
                        left.discard(held[1])
                        yield int(directory.name), held[1]
        if not left:
            return


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
