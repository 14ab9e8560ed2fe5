"""Where containers are on the host, and the condition of one.

`nixos-container create` writes the conf file first and sets the profile last; `destroy` removes the profile's directory
first and the conf file last. So a conf file alone is what either leaves, and `destroy` clears up after both. What is
there without a conf file was left by no program: it is taken over, since it may hold an agent's data.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hive_core.errors import HiveError, conflict
from hive_core.infra import files
from hive_core.protocol.names import MANAGER, is_agent_name
from hive_core.runtimes.nixos.containers import config_files

_PREFIX, _SUFFIX = "container@", ".service"
UNITS = _PREFIX
"""What the names of all containers' units begin with."""


def unit_name(container: str) -> str:
    """The unit that runs a container."""
    return f"{_PREFIX}{container}{_SUFFIX}"


def agent_of(unit: str) -> str | None:
    """The agent whose container a unit runs, judged by its name alone; None if it can be no agent's."""
    if not (unit.startswith(_PREFIX) and unit.endswith(_SUFFIX)):
        return None
    container = unit[len(_PREFIX) : -len(_SUFFIX)]
    if container == MANAGER:
        return container
    name = container.removeprefix("h-")
    return name if name != container and is_agent_name(name) else None


@dataclass(frozen=True)
class HostPaths:
    """Directories of the host that hold something of each container. None of them is an agent's to write, but for
    what lies in its own profile: that is bound into its container.
    """

    conf_dir: Path = Path("/etc/nixos-containers")
    root_dir: Path = Path("/var/lib/nixos-containers")
    profiles: Path = Path("/nix/var/nix/profiles/per-container")
    dropins: Path = Path("/run/systemd/system")
    control: Path = Path("/run/systemd/system.control")
    nix_daemon: Path = Path("/nix/var/nix/daemon-socket")
    """Where the socket of the Nix daemon is."""

    def conf(self, container: str) -> Path:
        """The unit's environment, a line per setting."""
        return self.conf_dir / f"{container}.conf"

    def root(self, container: str) -> Path:
        """The container's root directory."""
        return self.root_dir / container

    def profile(self, container: str) -> Path:
        """The directory of the container's profiles, among them `system`."""
        return self.profiles / container

    def dropin_dir(self, container: str) -> Path:
        """The directory of drop-ins that last until the host boots again."""
        return self.dropins / f"{unit_name(container)}.d"

    def live_dir(self, container: str) -> Path:
        """Where systemd itself keeps what was changed while the container runs."""
        return self.control / f"{unit_name(container)}.d"


Condition = Literal["absent", "whole", "unfinished"]
"""`unfinished`: it has to be cleared away, and made anew."""


@dataclass(frozen=True)
class ContainerFiles:
    """What there is of a container. `text` is its conf file's, None without one; `declared` if that is a link, as it
    is where the NixOS configuration declares the container. `system` is the closure that its profile leads to.
    """

    text: str | None
    declared: bool
    profile: bool
    system: str | None
    root: bool


def read_container_files(host_paths: HostPaths, container: str) -> ContainerFiles:
    """See what there is; follows no links. Raises HiveError `container_unreadable`."""
    path = host_paths.conf(container)
    try:
        declared = path.is_symlink()
        text = None if declared else files.read(path)
    except OSError as error:
        raise HiveError(
            "container_unreadable", f"cannot read {path}: {os.strerror(error.errno or 0)}", hint="see what it is"
        ) from None
    profile = host_paths.profile(container)
    return ContainerFiles(
        text, declared, _is_directory(profile), _system(profile), _is_directory(host_paths.root(container))
    )


def inspect(container_files: ContainerFiles, container: str, mark: str, closures: Collection[str]) -> Condition:
    """What state a container is in.

    `mark` is in the conf file of what this hive has made; before it was put there, the closure (one of `closures`)
    tells. Raises `container_in_the_way` for a container that is somebody else's.
    """
    if container_files.declared:
        raise conflict(
            "container_in_the_way",
            f"the NixOS configuration declares a container {container} of its own",
            "rename that container, or the agent",
        )
    if container_files.text is None:
        return "absent"
    if is_marked(container_files.text, mark):
        # An update that broke off leaves the old closure, or none if the agent has removed its profile: both are put
        # right by setting it again.
        return "whole" if container_files.profile else "unfinished"
    if container_files.system is None:
        return "unfinished"
    if container_files.system in closures:
        return "whole"
    raise conflict(
        "container_in_the_way",
        f"there is a container {container} that this hive has not made",
        f"remove it (nixos-container destroy {container}), or choose another name for the agent",
    )


def is_marked(text: str, mark: str) -> bool:
    """Whether a conf file has the hive's mark."""
    flags = (config_files.conf_value(text, "EXTRA_NSPAWN_FLAGS") or "").split()
    return any(flag == mark or flag.startswith(f"{mark}:") for flag in flags)


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _system(profile: Path) -> str | None:
    """The closure behind `system`: two links, both in a directory that the container's root may write."""
    try:
        target = (profile / "system").readlink()
        if target.is_absolute():
            return str(target)
        if len(target.parts) != 1:
            return None
        return str((profile / target).readlink())
    except OSError:
        return None
