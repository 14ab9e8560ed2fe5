"""Directories, devices and services of the host that the operator offers by name, and that agents ask for.

Root opens the path of an offered directory, so none of its parts may be replaced by an agent or another user: each
part is opened without following links, and everything above the directory belongs to root or to the daemon's user and
can be written by nobody else. The settings refuse directories of the hive, and one within another that agents write.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hive_core.errors import conflict
from hive_core.infra.storage.files import open_directory
from hive_core.protocol import AgentConfig
from hive_core.protocol.config.host_access import DeviceName, OfferedBind
from hive_core.protocol.network.services import place_in_agent, service_ports
from hive_core.runtimes.base import HostBind
from hive_core.settings import Settings
from hive_core.text import shown

_DEVICE_NODES: Mapping[DeviceName, Sequence[str]] = {
    # Render nodes compute and draw; the card nodes beside them also switch the screens of the host.
    "gpu": ("dri/renderD*", "kfd", "nvidia[0-9]*", "nvidiactl", "nvidia-uvm*", "nvidia-modeset"),
    "kvm": ("kvm",),
    "fuse": ("fuse",),
}
_DEVICE_CLASSES: Mapping[DeviceName, Sequence[str]] = {
    "gpu": ("class/drm/renderD*", "class/kfd/kfd"),
    "kvm": ("class/misc/kvm",),
    "fuse": ("class/misc/fuse",),
}
"""The places where the kernel lists them: a unit with PrivateDevices= has no nodes of devices in its own /dev."""
_DEVICE_EFFECTS: Mapping[DeviceName, str] = {
    "gpu": "the graphics processors of the host, also their memory",
    "kvm": "virtual machines with the processor of the host (/dev/kvm)",
    "fuse": "file systems of its own programs (/dev/fuse)",
}
_NO_HINT = "take it out of agent.toml, or ask the operator to offer it in the settings"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class HostOffers:
    """The directories, devices and services that the settings offer; services with their addresses, `HOST:PORT`.

    `nodes` and `kernel` are /dev and /sys, where devices are looked for. With `mapped`, agents see directories under
    other user ids, which systemd-nspawn maps to the owner's.
    """

    binds: Mapping[str, OfferedBind] = field(default_factory=dict)
    devices: Sequence[DeviceName] = ()
    nodes: Path = Path("/dev")
    kernel: Path = Path("/sys")
    mapped: bool = False
    services: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, settings: Settings) -> HostOffers:
        """Read what the settings offer."""
        mapped = settings.runtime == "nixos" and settings.nixos.user_namespaces
        return cls(settings.binds, settings.devices, mapped=mapped, services=settings.services)

    def check(self, config: AgentConfig) -> None:
        """Raise HiveError `not_offered` if a configuration asks for what the operator does not offer."""
        for kind, asked, offered in (
            ("directory", config.binds, [*self.binds]),
            ("device", config.devices, [*self.devices]),
            ("service", config.services, [*self.services]),
        ):
            missing = [name for name in asked if name not in offered]
            if missing:
                what = f"the operator offers agents no {kind} {', '.join(missing)}"
                known = f"offered are: {', '.join(offered)}" if offered else "none is offered"
                raise conflict("not_offered", f"{what}; {known}", _NO_HINT)

    def open_binds(self, config: AgentConfig) -> tuple[HostBind, ...]:
        """Return the directories that a configuration asks for, after a check of their paths. It can block.

        Raises `not_offered`, `bind_not_usable`.
        """
        self.check(config)
        found = []
        for name in config.binds:
            offered = self.binds[name]
            if why := why_not_usable(offered.path):
                what = f"the offered directory {name} cannot be shown: {shown(str(offered.path))} {why}"
                raise conflict("bind_not_usable", what, f"correct binds.{name} in the settings, or that directory")
            if self.mapped and offered.writable and (group := _unmapped_group(offered.path)):
                what = f"the offered directory {name} could not be written: {shown(str(offered.path))} {group}"
                raise conflict("bind_not_usable", what, "chgrp -R the owner's number: it needs no group of that number")
            found.append(HostBind(name, offered.path, offered.writable))
        return tuple(found)

    def find_devices(self, config: AgentConfig) -> tuple[Path, ...]:
        """Return the device nodes of what a configuration asks for. Raises `not_offered`, `no_device`."""
        self.check(config)
        nodes: list[Path] = []
        for name in config.devices:
            found = {path for pattern in _DEVICE_NODES[name] for path in self.nodes.glob(pattern) if _is_device(path)}
            listed = [path for pattern in _DEVICE_CLASSES[name] for path in self.kernel.glob(pattern)]
            found |= {self.nodes / node for path in listed if (node := _node_name(path))}
            if not found:
                where = f"{self.nodes}/{_DEVICE_NODES[name][0]}"
                raise conflict("no_device", f"this host has no {name}: there is no {where}", "load its driver")
            nodes += sorted(found)
        return tuple(nodes)

    def find_services(self, config: AgentConfig, *, sealed: bool) -> dict[str, str]:
        """Return the addresses at which an agent reaches the services that a configuration asks for, by their names.

        An agent that is `sealed` reaches them on its own loopback. Raises `not_offered`.
        """
        self.check(config)
        if sealed:
            return {name: place_in_agent(port) for name, port in service_ports(config.services).items()}
        return {name: self.services[name] for name in sorted(set(config.services))}

    def describe(self, old: AgentConfig | None, new: AgentConfig) -> list[str]:
        """Return lines for a reviewer about what a configuration asks for beyond the `old` one."""
        before = AgentConfig() if old is None else old
        lines = []
        for name in new.binds:
            if name not in before.binds and name in self.binds:
                offered = self.binds[name]
                how = "writable" if offered.writable else "read-only"
                lines.append(f"binds: {name} shows {shown(str(offered.path))} of the host, {how}, as /binds/{name}")
        lines += [
            f"devices: {name} gives {_DEVICE_EFFECTS[name]}" for name in new.devices if name not in before.devices
        ]
        lines += [
            f"services: {name} gives connections to {self.services[name]}, as this host reaches it"
            for name in new.services
            if name not in before.services and name in self.services
        ]
        return lines


def why_not_usable(path: Path) -> str:
    """Return the reason why root may not open this directory for an agent; "" if it may. It can block."""
    trusted = {0, os.geteuid()}
    current = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, part in enumerate(path.parts[1:], 2):
            found = os.fstat(current)
            above = Path(*path.parts[: number - 1])
            if found.st_uid not in trusted:
                return f"lies in {above}, which belongs to another user, who could replace it"
            if found.st_mode & _WRITABLE_BY_OTHERS:
                return f"lies in {above}, in which others than its owner can write, who could replace it"
            try:
                with open_directory(part, current, path_only=True) as below:
                    following = os.dup(below)
            except OSError as error:
                return _why_not_opened(part, current, Path(*path.parts[:number]), error)
            os.close(current)
            current = following
    except OSError as error:
        return f"cannot be looked at: {os.strerror(error.errno or 0)}"
    finally:
        os.close(current)
    return ""


def _unmapped_group(path: Path) -> str:
    """Return why nothing in a directory can be written under other user ids; "" if it can be.

    nspawn's `rootidmap` maps one number, for owner and group, and the kernel writes no file with an unmapped one.
    """
    try:
        found = path.lstat()
    except OSError as error:
        return f"cannot be looked at: {os.strerror(error.errno or 0)}"
    if found.st_uid == found.st_gid:
        return ""
    why = "in containers with users of their own both need the same number"
    return f"belongs to user {found.st_uid} and group {found.st_gid}, and {why}"


def _why_not_opened(name: str, within: int, path: Path, error: OSError) -> str:
    try:
        mode = os.stat(name, dir_fd=within, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return f"does not exist: there is no {path}"
    except OSError:
        return f"cannot be opened: {os.strerror(error.errno or 0)}"
    if stat.S_ISLNK(mode):
        return f"leads through the symbolic link {path}; name the directory itself"
    return f"is no directory: {path} is something else" if not stat.S_ISDIR(mode) else f"cannot be opened: {path}"


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.lstat().st_mode)
    except OSError:
        return False


def _node_name(device: Path) -> str:
    """Return the name of a device's node below /dev, as the kernel has it (uevent of sysfs); "" if it has none."""
    try:
        lines = (device / "uevent").read_text().splitlines()
    except OSError:
        return ""
    names = [line.removeprefix("DEVNAME=") for line in lines if line.startswith("DEVNAME=")]
    return names[0].removeprefix("/dev/") if names else ""
