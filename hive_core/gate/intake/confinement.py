"""Confinement of the git commands of an intake: a nearly empty sandbox, or plain processes.

Both have the same limits on memory, processor time and the size of files. The sandbox has no network, no other
processes and no capabilities. It shows only the system's programs and the inputs of the command, read-only, and the
directories that the command writes. The sandbox of an agent (`hive_core.runtimes.bubblewrap`) shows far more.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hive_core.infra.git.quarantine import GitInvocation, pipe
from hive_core.infra.processes import Command, Process, spawn
from hive_core.runtimes.bubblewrap import CONFINING, Host

_FOR_THE_LOADER = Path("/etc/ld.so.cache")
# Git needs random numbers for the names of temporary files.
_DEVICES = ("/dev/null", "/dev/urandom")


NICE = 10
"""nice(1) of the commands: an agent decides how much work they have, and the daemon goes first."""


@dataclass(frozen=True)
class Plain:
    """Starts git as a plain process of the daemon's user. `limits` are those of `Command`."""

    git: Path
    limits: Mapping[int, int]

    def __call__(self, call: GitInvocation, stdin: int, stdout: int | None = None) -> Process:
        line = [str(self.git), *call.arguments]
        return spawn(Command(line, call.environment, Path("/"), (), stdin, stdout, self.limits, NICE))


@dataclass(frozen=True)
class Sandbox:
    """Starts git in a bubblewrap sandbox. Where bwrap is set-uid, limits cannot be set: then PermissionError."""

    bwrap: str
    host: Host
    git: Path
    limits: Mapping[int, int]

    def __call__(self, call: GitInvocation, stdin: int, stdout: int | None = None) -> Process:
        # bwrap waits for its arguments from the pipe, so nothing runs before the limits are set.
        source, feed = pipe()
        try:
            line = [self.bwrap, "--args", str(source), "--", str(self.git), *call.arguments]
            command = Command(line, call.environment, Path("/"), [source], stdin, stdout, self.limits, NICE)
            try:
                process = spawn(command)
            finally:
                os.close(source)
            with suppress(BrokenPipeError):
                os.write(feed, b"".join(os.fsencode(word) + b"\0" for word in arguments(self.host, self.git, call)))
            return process
        finally:
            os.close(feed)


def arguments(host: Host, git: Path, call: GitInvocation) -> list[str]:
    """Return the arguments of bwrap for the sandbox of one command, in the order of mounting."""
    line = list(CONFINING)
    for target, link in host.links:
        line += ["--symlink", target, link]
    shown = [path for path in host.read_only if not path.is_relative_to("/etc")]
    if not any(git.is_relative_to(path) for path in shown):
        shown.append(git)
    for path in (*shown, _FOR_THE_LOADER):
        line += ["--ro-bind-try", str(path), str(path)]
    # Only these devices: all of /dev would be a file system in memory, which the command could fill.
    for device in _DEVICES:
        line += ["--dev-bind", device, device]
    for path in call.reads:
        line += ["--ro-bind", str(path), str(path)]
    for path in call.writes:
        line += ["--bind", str(path), str(path)]
    return [*line, "--remount-ro", "/", "--chdir", "/"]


def limits(proposal_bytes: int, memory: int, seconds: float) -> dict[int, int]:
    """Return the resource limits of every command of an intake."""
    return {
        resource.RLIMIT_AS: memory + 2 * proposal_bytes,
        resource.RLIMIT_CPU: max(1, round(seconds)),
        # Room for the pack and its index.
        resource.RLIMIT_FSIZE: 4 * proposal_bytes + 1024 * 1024,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 1_024,
    }
