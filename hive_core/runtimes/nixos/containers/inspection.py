"""Where a host keeps its containers: as the NixOS module and `nixos-container` have it, told to us by the unit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hive_core.protocol.names import MANAGER, is_agent_name

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
class Places:
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
