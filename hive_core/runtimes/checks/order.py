"""One check of proposed work: a command of the operator's on files that an agent has made."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CODE = "/code"
"""The directory in a sandbox in which the check finds its copy of the repository, as agents do."""
HOME = "/home/check"
"""The home directory in a sandbox, which is empty at first."""
PLACES = ("tmp", "home", "shm")
"""Directories that a check may write, beside the files of the repository; mounted at /tmp, HOME and /dev/shm."""


@dataclass(frozen=True)
class CheckLimits:
    """The limits of one check: bytes of memory, tasks, bytes on the disk, percent of a core, bytes of output, seconds.

    `disk` counts everything that the check has in its directory, with the files of the repository.
    """

    memory: int
    tasks: int
    disk: int
    cpu: int
    output: int
    seconds: float


@dataclass(frozen=True)
class WayOut:
    """The proxy of a check: the port of its loopback, and who takes over the socket that listens there."""

    port: int
    give: Callable[[socket.socket], None]


@dataclass(frozen=True)
class CheckRun:
    """A check to run: the command `argv`, on the submitter's `closure`, in a sandbox without credentials.

    It has no network but a loopback, and on that the proxy of `way_out` if there is one.

    `directory` is a directory of this run alone, which the caller makes and removes. `files` in it has the files of the
    proposed tree, which the check may change: nobody uses them afterwards. `repository` is the name of the directory
    below `CODE` in which it finds them. `label` is unique among the runs of a daemon.
    """

    label: str
    agent: str
    closure: str
    repository: str
    directory: Path
    argv: Sequence[str]
    limits: CheckLimits
    way_out: WayOut | None = None

    @property
    def files(self) -> Path:
        return self.directory / "files"

    @property
    def working_directory(self) -> str:
        """The directory in the sandbox in which the command starts."""
        return f"{CODE}/{self.repository}"


class CheckStopped(Exception):
    """A check has reached a limit; the text says which one, as the end of a sentence about the check."""
