"""Judges who may get in: the operator's socket, and the directories that are the daemon's alone."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass

from hive_core.doctor.findings import Finding, error, ok, warning

_SOCKET = "host-socket"


@dataclass(frozen=True)
class Door:
    """A file's mode as stat(2) tells it, and its owner's and group's numbers."""

    mode: int
    user: int
    group: int


@dataclass(frozen=True)
class DoorFacts:
    """`socket` is host.sock, None where it is not there; `group` the number of `group_name`, None if there is no such
    group. `private` holds the directories in which nobody but the daemon has any business.
    """

    path: str
    socket: Door | None
    group_name: str
    group: int | None
    private: Mapping[str, Door]


def judge_doors(facts: DoorFacts) -> list[Finding]:
    """Whether those get in who should, and nobody else."""
    found = [_group(facts)]
    if facts.socket is not None:
        found.append(_socket(facts.path, facts.socket, facts.group))
    for path, door in facts.private.items():
        if door.mode & 0o077:
            what = f"others than the daemon's user may look into {path} (mode {stat.S_IMODE(door.mode):04o})"
            found.append(error("private", what, f"chmod 0700 {path}"))
        else:
            found.append(ok("private", f"{path} is the daemon's alone"))
    return found


def _group(facts: DoorFacts) -> Finding:
    if facts.group is not None:
        return ok("group", f"who is in the group {facts.group_name} may use the hive")
    what = f"there is no group {facts.group_name}: only the daemon's user may use the hive"
    return warning("group", what, f"groupadd --system {facts.group_name}, or name another one with socket_group")


def _socket(path: str, door: Door, group: int | None) -> Finding:
    again = "restart the daemon: it makes the socket anew"
    mode = stat.S_IMODE(door.mode)
    if not stat.S_ISSOCK(door.mode):
        return error(_SOCKET, f"{path} is no socket", "remove it and start the daemon")
    if mode & 0o007:
        return error(_SOCKET, f"everybody on this host may use {path} (mode {mode:04o})", again)
    if group is not None and (door.group != group or mode & 0o660 != 0o660):
        return error(_SOCKET, f"{path} is not for that group (mode {mode:04o}, group {door.group})", again)
    return ok(_SOCKET, f"{path} is for whom it should be (mode {mode:04o})")
