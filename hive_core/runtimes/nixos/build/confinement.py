"""The transient unit in which an agent's configuration is evaluated: it is code of an agent's, run before anybody has
approved of it. Pure; the settings are those of systemd.exec(5) and systemd.resource-control(5).

What it sees of the hive is one directory for its work and the applied repository that it builds from. It keeps the
network, since Nix fetches inputs; Nix itself refuses whatever is not pinned by a hash.
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
"""Paths without characters that mean something in a setting of a unit or in a flake reference."""

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
"""Ways to the manager of the system, what other containers hold, and where hosts keep secrets."""

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
    # An evaluation does not end when it is asked to, and it has nothing to put in order.
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
"""For a user of its own, which needs none of this: the Nix daemon does the building."""
_ROOT = ("CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_PTRACE CAP_NET_ADMIN CAP_BPF",)
"""For root, which builds itself: other users to build as, and Nix's own sandbox around them."""


@dataclass(frozen=True)
class BuildLimits:
    """Most memory ("4G") and tasks of an evaluation, and how many seconds it may take."""

    memory: str
    tasks: int
    seconds: float


@dataclass(frozen=True)
class Confinement:
    """How builds are confined on this host. `hidden` directories are shown empty; `store` (of Nix: its store and its
    state) is written only by root, where there is no daemon to do it.
    """

    systemd_run: str
    unprivileged: bool
    limits: BuildLimits
    hidden: Sequence[Path]
    store: Sequence[Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """Who evaluates, and in what."""
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
        """`systemd-run` that runs `command` in `unit`, waits for it, and passes on its output and exit code.

        `place` can be written and is the working directory; `shown` are directories and where they are seen,
        read-only; `variables` come on top of the environment of all builds.
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
        told = {**self.environment, **variables}
        if self.unprivileged:
            told["NIX_REMOTE"] = "daemon"
        return [
            self.systemd_run,
            "--quiet",
            "--wait",
            "--pipe",
            f"--unit={unit}",
            "--service-type=exec",
            f"--description=hyperhive builds {unit.removeprefix(UNIT_PREFIX)}",
            *(f"--property={setting}" for setting in settings),
            *(f"--setenv={name}={text}" for name, text in told.items()),
            "--",
            *command,
        ]


def check_path(path: Path) -> None:
    """Raise HiveError `unusable_path` for a path that cannot be told to systemd and Nix."""
    if not _USABLE.fullmatch(str(path)):
        raise HiveError(
            "unusable_path",
            f"the path {str(path)!r} cannot be used with systemd and Nix",
            hint="choose absolute paths of letters, digits, `-`, `_`, `.` and `/` for the hive's directories",
        )


def unit_name(name: str, number: int) -> str:
    """The unit of one build."""
    return f"{UNIT_PREFIX}{name}-{number}.service"
