"""The transient unit in which an agent's configuration is evaluated. Pure.

The configuration is code of an agent that nobody has approved yet. Of the hive it sees one directory to work in and the
applied repository that it is built from. It keeps the network, because Nix fetches inputs; Nix itself refuses inputs
that are not pinned by a hash. The settings are those of systemd.exec(5) and systemd.resource-control(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hive_core.errors import HiveError

UNIT_PREFIX = "hive-build-"
STOP_SECONDS = 5
_USABLE = re.compile(r"(/[A-Za-z0-9._-]+)+")
"""Paths without characters that have a meaning in a setting of a unit or in a flake reference."""

_HIDDEN = (
    "/etc/nixos-containers",
    "/etc/containers",
    "/var/lib/nixos-containers",
    "/var/lib/containers",
    "/run/dbus",
    "/run/systemd/private",
    "/run/systemd/nspawn",
    "/run/nixos-containers",
    "/run/secrets",
    "/run/agenix",
    "/run/credentials",
    "/run/keys",
)
"""The sockets of the system's manager, the directories of containers, and usual directories of secrets."""

_ANYBODY = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "KeyringMode=private",
    "UMask=0022",
    "OOMPolicy=kill",
    "OOMScoreAdjust=500",
    "KillMode=control-group",
    "SendSIGKILL=yes",
    f"TimeoutStopSec={STOP_SECONDS}",
)
_UNPRIVILEGED = (
    "DynamicUser=yes",
    # An evaluation ignores SIGTERM, and has nothing to clean up.
    "KillSignal=SIGKILL",
    "CapabilityBoundingSet=",
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
    "RestrictNamespaces=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    "InaccessiblePaths=-/var/log",
)
"""For a dynamic user, which needs none of this because the Nix daemon builds."""
_ROOT = ("CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_PTRACE CAP_NET_ADMIN CAP_BPF",)
"""For root, which builds itself: Nix needs the build users and its own sandbox."""


@dataclass(frozen=True)
class BuildLimits:
    """The limits of an evaluation: memory ("4G"), tasks and seconds."""

    memory: str
    tasks: int
    seconds: float


@dataclass(frozen=True)
class Confinement:
    """The confinement of builds on this host. `hidden` directories are shown empty; those of `store` (the store and the
    state of Nix) are writable for root only, which builds without a daemon.
    """

    systemd_run: str
    unprivileged: bool
    limits: BuildLimits
    hidden: Sequence[Path]
    store: Sequence[Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """The user and the confinement of evaluations, in words."""
        who = "a user of its own, through the Nix daemon" if self.unprivileged else "root"
        return f"evaluated in a confined unit by {who}"

    def argv(
        self,
        unit: str,
        command: Sequence[str],
        *,
        directory: Path,
        shown: Mapping[Path, Path],
        variables: Mapping[str, str],
    ) -> list[str]:
        """Return the command of `systemd-run` that runs `command` in `unit` and passes on its output and exit code.

        `directory` is writable and the working directory. `shown` maps directories to the paths at which they are
        visible, read-only. `variables` are added to the environment of all builds.
        """
        writable = (f"ReadWritePaths=-{path}" for path in self.store)
        who = _UNPRIVILEGED if self.unprivileged else (*_ROOT, *writable)
        seconds = max(1, int(self.limits.seconds))
        settings = [
            *_ANYBODY,
            *who,
            f"MemoryMax={self.limits.memory}",
            "MemorySwapMax=0",
            f"TasksMax={self.limits.tasks}",
            f"RuntimeMaxSec={seconds}",
            *(f"TemporaryFileSystem={path}:mode=0755,size=1M" for path in self.hidden),
            *(f"InaccessiblePaths=-{path}" for path in _HIDDEN),
            f"BindPaths={directory}:{directory}",
            *(f"BindReadOnlyPaths={source}:{seen}" for source, seen in shown.items()),
            f"WorkingDirectory={directory}",
        ]
        environment = {**self.environment, **variables}
        if self.unprivileged:
            environment["NIX_REMOTE"] = "daemon"
        return [
            self.systemd_run,
            "--quiet",
            "--wait",
            "--pipe",
            f"--unit={unit}",
            "--service-type=exec",
            f"--description=hyperhive builds {unit.removeprefix(UNIT_PREFIX)}",
            *(f"--property={setting}" for setting in settings),
            *(f"--setenv={name}={text}" for name, text in environment.items()),
            "--",
            *command,
        ]


def check_path(path: Path) -> None:
    """Raise HiveError `unusable_path` for a path that systemd and Nix cannot be given."""
    if not _USABLE.fullmatch(str(path)):
        raise HiveError(
            "unusable_path",
            f"the path {str(path)!r} cannot be used with systemd and Nix",
            hint="choose absolute paths of letters, digits, `-`, `_`, `.` and `/` for the hive's directories",
        )


def unit_name(name: str, number: int) -> str:
    """Return the name of the unit of one build."""
    return f"{UNIT_PREFIX}{name}-{number}.service"
