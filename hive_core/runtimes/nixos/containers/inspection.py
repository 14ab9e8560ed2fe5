"""The paths of containers on the host, and the condition of a container.

`nixos-container create` writes the conf file first and sets the profile last; `destroy` removes the profile's directory
first and the conf file last. So either of them, when interrupted, leaves a conf file, and `destroy` cleans up after
both. Files without a conf file were left by no program: they are taken over, because they may hold an agent's data.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hive_core.errors import HiveError, conflict
from hive_core.infra.storage import files
from hive_core.protocol.names import MANAGER, is_agent_name
from hive_core.runtimes.nixos.containers import config_files

_PREFIX, _SUFFIX = "container@", ".service"
UNITS = _PREFIX
"""The beginning of the names of all containers' units."""


def unit_name(container: str) -> str:
    """Return the name of the unit that runs a container."""
    return f"{_PREFIX}{container}{_SUFFIX}"


def agent_of(unit: str) -> str | None:
    """Return the agent whose container a unit runs, by the unit's name alone; None if it cannot be one."""
    if not (unit.startswith(_PREFIX) and unit.endswith(_SUFFIX)):
        return None
    container = unit[len(_PREFIX) : -len(_SUFFIX)]
    if container == MANAGER:
        return container
    name = container.removeprefix("h-")
    return name if name != container and is_agent_name(name) else None


@dataclass(frozen=True)
class HostPaths:
    """Directories of the host with files of containers. An agent can write none of them but its own profile and GC
    roots, which are bound into its container.
    """

    conf_dir: Path = Path("/etc/nixos-containers")
    root_dir: Path = Path("/var/lib/nixos-containers")
    profiles: Path = Path("/nix/var/nix/profiles/per-container")
    gcroots: Path = Path("/nix/var/nix/gcroots/per-container")
    dropins: Path = Path("/run/systemd/system")
    control: Path = Path("/run/systemd/system.control")
    nix_daemon: Path = Path("/nix/var/nix/daemon-socket")
    """The directory of the socket of the Nix daemon."""

    def conf(self, container: str) -> Path:
        """Return the path of the conf file, which is the environment of the unit."""
        return self.conf_dir / f"{container}.conf"

    def root(self, container: str) -> Path:
        """Return the container's root directory."""
        return self.root_dir / container

    def profile(self, container: str) -> Path:
        """Return the directory of the container's profiles, among them `system`."""
        return self.profiles / container

    def dropin_dir(self, container: str) -> Path:
        """Return the directory of drop-ins, which last until the host boots again."""
        return self.dropins / f"{unit_name(container)}.d"

    def live_dir(self, container: str) -> Path:
        """Return the directory in which systemd keeps settings that were changed while the container ran."""
        return self.control / f"{unit_name(container)}.d"


Condition = Literal["absent", "whole", "unfinished"]
"""`unfinished`: the container must be removed and created again."""


@dataclass(frozen=True)
class ContainerFiles:
    """The files of a container. `text` is the content of its conf file, None without one. `declared` is True if that
    is a link, which means that the NixOS configuration declares it. `system` is the closure of its profile.
    """

    text: str | None
    declared: bool
    profile: bool
    system: str | None
    root: bool


def read_container_files(host_paths: HostPaths, container: str) -> ContainerFiles:
    """Read the files of a container without following links. Raises HiveError `container_unreadable`."""
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
    """Return the condition of a container.

    The conf files of this hive's containers have `mark`; one without it is this hive's if its closure is one of
    `closures`. Raises `container_in_the_way` for any other container.
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
        # An interrupted update leaves the old closure, or none if the agent has removed its profile: both are made
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
    """Return True if a conf file has the hive's mark."""
    flags = (config_files.conf_value(text, "EXTRA_NSPAWN_FLAGS") or "").split()
    return any(flag == mark or flag.startswith(f"{mark}:") for flag in flags)


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _system(profile: Path) -> str | None:
    """Return the closure of the profile `system`: two links in a directory that the container's root may write."""
    try:
        target = (profile / "system").readlink()
        if target.is_absolute():
            return str(target)
        if len(target.parts) != 1:
            return None
        return str((profile / target).readlink())
    except OSError:
        return None
