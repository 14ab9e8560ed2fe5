"""The transient units in which an agent's configuration is evaluated and built. Pure.

The configuration is code of an agent that nobody has approved yet. There are three kinds of units:

- *evaluate*: Nix evaluates, as a user of its own or as root. No network.
- *realise*: root's Nix has builders run in its sandbox, in the local store, without the Nix daemon: the builders are in
  this unit, so its limits hold for them. No network.
- *fetch*: as realise, with the host's network, for one fixed-output derivation that an operator has allowed.

Of the hive they see one directory. The settings are those of systemd.exec(5) and systemd.resource-control(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hive_core.errors import HiveError

UNIT_PREFIX = "hive-build-"
STOP_SECONDS = 5
BUILD_USER = "hyperhive-build"
"""The user that evaluates, for `allowed-users` in nix.conf."""
DAEMON_SOCKETS = "/nix/var/nix/daemon-socket"
Purpose = Literal["evaluate", "realise", "fetch"]
_USABLE = re.compile(r"(/[A-Za-z0-9._-]+)+")
"""Paths without characters that have a meaning in a setting of a unit or in a flake reference."""

HIDDEN = (
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
_RESOLVERS = (
    "/run/nscd",
    "/run/systemd/resolve",
    "/run/avahi-daemon",
)
"""The sockets of services that look up names. They are outside of the unit's network: a look-up by a unit without
network would send a name that an agent chose to the domain's server. Nix shows that of nscd to fixed-output builders.
"""

CONFINED = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "ProtectClock=yes",
    "ProtectKernelModules=yes",
    "ProtectControlGroups=yes",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "KeyringMode=private",
    "UMask=0022",
    "OOMPolicy=kill",
    "OOMScoreAdjust=500",
    "LimitCORE=0",
    "KillMode=control-group",
    "SendSIGKILL=yes",
    f"TimeoutStopSec={STOP_SECONDS}",
)
"""Settings of every unit that runs something for an agent or an upstream."""
_NO_NETWORK = ("PrivateNetwork=yes", *(f"InaccessiblePaths=-{path}" for path in _RESOLVERS))
_EVALUATION = (
    *_NO_NETWORK,
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelTunables=yes",
    # The socket of the Nix daemon, and the kernel's list of network interfaces, which Nix reads.
    "RestrictAddressFamilies=AF_UNIX AF_NETLINK",
    "InaccessiblePaths=-/var/log",
)
UNPRIVILEGED = (
    "DynamicUser=yes",
    # An evaluation ignores SIGTERM, and has nothing to clean up.
    "KillSignal=SIGKILL",
    "CapabilityBoundingSet=",
    "RestrictNamespaces=yes",
    "ProtectProc=invisible",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
)
"""For a user of its own, which needs none of this because the Nix daemon writes the store.

`User=` names the account if the host has one of that name, otherwise one that exists as long as the unit.
"""
_ROOT = ("CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_PTRACE CAP_NET_ADMIN CAP_BPF",)
"""For root, which writes the store itself: Nix needs the build users and its own sandbox."""
_BUILDS = (f"InaccessiblePaths=-{DAEMON_SOCKETS}",)
"""For the units that build. What would mount something over parts of /proc, or keep the name of the host from being
changed, is left out: Nix's sandbox has a /proc and a name of its own.
"""


@dataclass(frozen=True)
class BuildLimits:
    """The limits of each unit: memory ("4G"), tasks, seconds, and what it may write to the disk ("32G").

    `seconds` limits also the processor time of each process, and `disk` also the size of each file.
    """

    memory: str
    tasks: int
    seconds: float
    disk: str = "32G"


@dataclass(frozen=True)
class Confinement:
    """The confinement of builds on this host. `unprivileged` is True if a user of its own evaluates, not root.

    `hidden` directories are shown empty; those of `store` (the store and the state of Nix) are writable for root only.
    `environment` is that of every unit, `network_environment` is added for units with network.
    """

    systemd_run: str
    unprivileged: bool
    limits: BuildLimits
    hidden: Sequence[Path]
    store: Sequence[Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    network_environment: Mapping[str, str] = field(default_factory=dict)

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
        purpose: Purpose,
        directory: Path,
        variables: Mapping[str, str],
    ) -> list[str]:
        """Return the command of `systemd-run` that runs `command` in `unit` and passes on its output and exit code.

        `directory` is the working directory; the file modes in it say what the unit may write. `variables` are added to
        the environment of all builds.
        """
        limits = self.limits
        seconds = max(1, int(limits.seconds))
        settings = [
            *CONFINED,
            *self._settings_of(purpose),
            f"MemoryMax={limits.memory}",
            "MemorySwapMax=0",
            f"TasksMax={limits.tasks}",
            f"RuntimeMaxSec={seconds}",
            # Its end by SIGXCPU comes before that by SIGKILL, which would look like an end by lack of memory.
            f"LimitCPU={seconds}:{seconds + STOP_SECONDS}",
            f"LimitFSIZE={limits.disk}",
            *(f"TemporaryFileSystem={path}:mode=0755,size=1M" for path in self.hidden),
            *(f"InaccessiblePaths=-{path}" for path in HIDDEN),
            f"BindPaths={directory}:{directory}",
            f"WorkingDirectory={directory}",
        ]
        environment = {**self.environment, **variables}
        if purpose == "fetch":
            environment |= self.network_environment
        if purpose == "evaluate" and self.unprivileged:
            environment["NIX_REMOTE"] = "daemon"
        return [
            self.systemd_run,
            "--quiet",
            "--wait",
            "--pipe",
            f"--unit={unit}",
            "--service-type=exec",
            f"--description=hyperhive: {purpose} {unit.removeprefix(UNIT_PREFIX).removesuffix('.service')}",
            *(f"--property={setting}" for setting in settings),
            *(f"--setenv={name}={text}" for name, text in environment.items()),
            "--",
            *command,
        ]

    def _settings_of(self, purpose: Purpose) -> Sequence[str]:
        if purpose == "evaluate" and self.unprivileged:
            return (*_EVALUATION, f"User={BUILD_USER}", *UNPRIVILEGED)
        as_root = (*_ROOT, *(f"ReadWritePaths=-{path}" for path in self.store))
        match purpose:
            case "evaluate":
                return (*_EVALUATION, *as_root)
            case "realise":
                return (*_NO_NETWORK, *_BUILDS, *as_root)
            case "fetch":
                return (*_BUILDS, *as_root)


def check_path(path: Path) -> None:
    """Raise HiveError `unusable_path` for a path that systemd and Nix cannot be given."""
    if not _USABLE.fullmatch(str(path)):
        raise HiveError(
            "unusable_path",
            f"the path {str(path)!r} cannot be used with systemd and Nix",
            hint="choose absolute paths of letters, digits, `-`, `_`, `.` and `/` for the hive's directories",
        )


def unit_name(label: str) -> str:
    """Return the name of the unit for the label of a workspace."""
    return f"{UNIT_PREFIX}{label}.service"
