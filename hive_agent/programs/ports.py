"""The TCP ports on which a process and its descendants listen, from /proc."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hive_agent.programs.keeper import find_descendants

_LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def listening_ports(pid: int) -> list[int]:
    """Return the ports of the descendants of `pid`."""
    return sorted(_ports(_socket_inodes(find_descendants(pid))))


def _socket_inodes(pids: set[int]) -> set[str]:
    found = set()
    for pid in pids:
        with suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    target = str(entry.readlink())
                    if target.startswith("socket:["):
                        found.add(target[len("socket:[") : -1])
    return found


def _ports(inodes: set[str]) -> set[int]:
    found = set()
    for file in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{file}").read_text().splitlines()[1:]:
                fields = line.split()
                if len(fields) > 9 and fields[3] == _LISTEN and fields[9] in inodes:
                    found.add(int(fields[1].rpartition(":")[2], 16))
    return found
