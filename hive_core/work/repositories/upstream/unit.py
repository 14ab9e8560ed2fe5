"""Confinement of transfers in transient systemd units: a user of its own, network, no capabilities."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.git.quarantine import ended
from hive_core.infra.processes import Command, Process, spawn
from hive_core.runtimes.nixos.build.unit.confinement import CONFINED, HIDDEN, UNPRIVILEGED
from hive_core.runtimes.nixos.build.unit.executor import forget
from hive_core.work.repositories.upstream.access import SECRET_VARIABLE
from hive_core.work.repositories.upstream.confinement import (
    MEMORY_BYTES,
    NICE,
    UpstreamCommand,
    find_program,
    host_environment,
    lent_file,
)

UNIT_PREFIX = "hive-upstream-"
USER = "hyperhive-upstream"
_CREDENTIAL = "secret"
_TASKS = 64
_CREDENTIALS = "/run/credentials"


@dataclass(frozen=True)
class UnitUpstream:
    """Runs commands in units. `hidden` are the directories of the hive, of which a unit sees only the command's.

    `lent` is a directory that only the daemon can enter: systemd reads the secret from a file there.
    """

    systemd_run: str
    hidden: Sequence[Path]
    lent: Path
    description: str = "a transient unit of a user of its own, without capabilities"

    @asynccontextmanager
    async def run(self, command: UpstreamCommand, stdin: int | None, stdout: int | None) -> AsyncIterator[Process]:
        unit = f"{UNIT_PREFIX}{secrets.token_hex(6)}.service"
        with lent_file(self.lent, command.secret) as secret:
            line = unit_arguments(self.systemd_run, unit, self.hidden, command, secret)
            try:
                process = spawn(Command(line, dict(os.environ), Path("/"), (), stdin, stdout))
            except OSError as error:
                why = f"cannot run {self.systemd_run}: {error.strerror}"
                raise HiveError("transfer_failed", why, status=500) from None
            try:
                async with ended(process):
                    yield process
                    if not process.ended:
                        await shield_to_completion(forget(unit))
            except BaseException:
                await shield_to_completion(forget(unit))
                raise


def unit_arguments(
    systemd_run: str, unit: str, hidden: Sequence[Path], command: UpstreamCommand, secret: Path | None
) -> list[str]:
    """Return the command of `systemd-run` that runs a command in `unit` and passes on its streams and exit code."""
    environment = {**host_environment(), **command.environment}
    seconds = max(1, round(command.seconds))
    settings = [
        *CONFINED,
        f"User={USER}",
        *UNPRIVILEGED,
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelTunables=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "InaccessiblePaths=-/var/log",
        f"Nice={NICE}",
        f"MemoryMax={MEMORY_BYTES}",
        "MemorySwapMax=0",
        f"TasksMax={_TASKS}",
        f"RuntimeMaxSec={seconds}",
        f"LimitFSIZE={command.file_bytes}",
        *(f"TemporaryFileSystem={path}:mode=0755,size=1M" for path in hidden),
        *(f"InaccessiblePaths=-{path}" for path in HIDDEN if path != _CREDENTIALS),
        *(f"BindReadOnlyPaths={path}:{path}" for path in command.reads),
        *(f"BindPaths={path}:{path}" for path in command.writes),
        "WorkingDirectory=/",
    ]
    if secret is not None:
        settings.append(f"LoadCredential={_CREDENTIAL}:{secret}")
        environment[SECRET_VARIABLE] = f"{_CREDENTIALS}/{unit}/{_CREDENTIAL}"
    return [
        systemd_run,
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        f"--unit={unit}",
        "--service-type=exec",
        "--description=hyperhive: transfer with the upstream of a repository",
        *(f"--property={setting}" for setting in settings),
        *(f"--setenv={name}={text}" for name, text in environment.items()),
        "--",
        find_program(command.argv[0]),
        *command.argv[1:],
    ]


async def end_transfers() -> None:
    """End the transfers that a killed daemon has left."""
    await forget(f"{UNIT_PREFIX}*.service")
