"""Pure checks of programs, containers, the kernel, disk space and permissions."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hive_core.doctor.findings import CommandOutput, Finding, dotted, error, ok, version, warning
from hive_core.errors import HiveError
from hive_core.settings import Settings
from hive_core.text import format_bytes

GIT_LEAST = (2, 36)
"""The first git that syncs refs to the disk (core.fsync)."""


def check_git(said: CommandOutput) -> Finding:
    """Check that git is installed and new enough."""
    remedy = f"install git {dotted(GIT_LEAST)} or newer where the daemon finds it (its PATH)"
    if said.missing:
        return error("git", "git is not installed", remedy)
    found = version(said)
    if said.failed or not found:
        return error("git", f"git does not print its version: {said.failed or said.text.strip()[:80]!r}", remedy)
    if found < GIT_LEAST:
        return error("git", f"git is {dotted(found)}, too old", remedy)
    return ok("git", f"git is {dotted(found)}")


def check_ssh(said: CommandOutput) -> Finding:
    """Check that the client of OpenSSH is installed, which fetches repositories with ssh URLs."""
    if said.missing:
        remedy = "install the client of OpenSSH where the daemon finds it (its PATH); https URLs work without it"
        return warning("ssh", "ssh is not installed: repositories with ssh URLs cannot be fetched", remedy)
    return ok("ssh", "ssh is there, for repositories with ssh URLs")


def check_bubblewrap(problem: str, remedy: str, settings: Settings, said: CommandOutput) -> Finding:
    """Check whether bubblewrap works, which the nixos runtime needs for intake.

    `problem` says why it does not work and `remedy` what to do then; `said` is the output of `bwrap --version`.
    """
    if not problem:
        number = version(said)
        works = f"bubblewrap works, version {dotted(number)}" if number else "bubblewrap works"
        meaning = (
            ": a sealed agent has a loopback of its own and no other network" if settings.runtime == "local" else ""
        )
        return ok("bubblewrap", f"{works}{meaning}")
    if settings.runtime == "nixos":
        what = f"the daemon cannot start: it reads what agents propose in bubblewrap, and {problem}"
        return error("bubblewrap", what, remedy)
    sealing = "none is sealed (unsealed = true)" if settings.unsealed else "sealed ones are refused"
    if settings.sandbox == "none":
        return warning(
            "bubblewrap", f'agents are not confined, and {sealing}: sandbox = "none"', 'set sandbox = "bubblewrap"'
        )
    if settings.sandbox == "bubblewrap":
        return error("bubblewrap", f'sandbox = "bubblewrap", and the daemon cannot start: {problem}', remedy)
    return warning("bubblewrap", f"agents run as plain processes, not confined, and {sealing}: {problem}", remedy)


SYSTEMD_TESTED = (252,)
"""The oldest systemd that the nixos runtime was tested with."""


NIXOS_LEAST = (25, 5)
"""The oldest NixOS that is supported."""
_UPDATE = "update the host to NixOS 25.05 or newer"
_RELEASE = re.compile(r"([0-9]{2})\.([0-9]{2})")


@dataclass(frozen=True)
class ContainerFacts:
    """The facts about containers on this host.

    `booted` is True if systemd is process 1. `unit` is the output of `systemctl show --property=LoadState` for a
    container, `nspawn` that of `systemd-nspawn --version`. `nixos_container` is the text of that program, None where
    it is not installed. `release` has the values of os-release(5).
    """

    systemd: CommandOutput
    booted: bool
    nixos_container: str | None
    unit: CommandOutput
    nspawn: CommandOutput
    release: Mapping[str, str] = field(default_factory=dict)


def check_containers(facts: ContainerFacts) -> list[Finding]:
    """Check that containers can be run here."""
    found = [_release(facts.release), _systemd(facts), _nixos_container(facts.nixos_container)]
    found.append(_nspawn(facts.nspawn))
    if facts.booted:
        found.append(_unit(facts.unit))
    return found


def _release(release: Mapping[str, str]) -> Finding:
    check = "nixos"
    if release.get("ID") != "nixos":
        name = ascii(release.get("ID", "unknown"))[:40]
        what = f"this host is not NixOS (os-release has {name}): the nixos runtime is for NixOS"
        return warning(check, what, 'use NixOS 25.05 or newer, or set runtime = "local"')
    number = _RELEASE.match(release.get("VERSION_ID", ""))
    if number is None:
        what = f"the release of this NixOS is not known: {ascii(release.get('VERSION_ID'))[:40]}"
        return warning(check, what, "see VERSION_ID in /etc/os-release")
    if (int(number[1]), int(number[2])) < NIXOS_LEAST:
        what = f"this host is NixOS {number[0]}; the oldest release that is supported is 25.05"
        return error(check, what, _UPDATE)
    return ok(check, f"this host is NixOS {number[0]}")


def _nspawn(said: CommandOutput) -> Finding:
    check = "nspawn"
    if said.missing:
        remedy = "install it (Debian: systemd-container), and check the daemon's PATH"
        return error(check, "systemd-nspawn, which runs containers, is not installed", remedy)
    number = version(said)
    if said.failed or not number:
        what = f"systemd-nspawn does not print its version: {said.failed or said.text.strip()[:80]!r}"
        return error(check, what, "see what systemd-nspawn --version prints")
    return ok(check, f"systemd-nspawn is {dotted(number)}")


def _nixos_container(text: str | None) -> Finding:
    check = "nixos-container"
    if text is None:
        remedy = "boot.enableContainers = true; in the host's configuration, and check the daemon's PATH"
        return error(check, "nixos-container is not installed", remedy)
    # Before NixOS 25.05 the program named the namespaces to enter, without the user namespace.
    if "nsenter" in text and "--all" not in text:
        what = "nixos-container run and root-login do not enter the user namespace of a container: what they run there"
        what += " is root on the host, with a profile that the agent may have written"
        return error(check, what, f"use neither of them, and {_UPDATE}")
    return ok(check, "nixos-container is installed")


def _systemd(facts: ContainerFacts) -> Finding:
    number = version(facts.systemd)
    if not facts.booted:
        return error("systemd", "systemd is not process 1 here", 'containers need it; or set runtime = "local"')
    if facts.systemd.failed or not number:
        said = facts.systemd.failed or facts.systemd.text.strip()[:80]
        return error(
            "systemd", f"systemctl does not print its version: {said!r}", "see what systemctl --version prints"
        )
    if number < SYSTEMD_TESTED:
        old = f"systemd is {dotted(number)}; nothing before {dotted(SYSTEMD_TESTED)} was tested"
        return warning("systemd", old, "update the host")
    return ok("systemd", f"systemd is {dotted(number)}")


def _unit(said: CommandOutput) -> Finding:
    check = "container-unit"
    if said.failed:
        return error(check, f"systemctl does not answer: {said.failed}", "see systemctl status")
    if "LoadState=loaded" in said.text.split():
        return ok(check, "container@.service exists")
    remedy = "boot.enableContainers = true; in the host's configuration"
    return error(check, "there is no container@.service", remedy)


_NEEDED = {"memory": "memory_max", "cpu": "cpu_quota", "pids": "tasks_max"}
"""The controllers, and the limits that they enforce."""
_OFF = "set nixos.user_namespaces = false (a container's root is then the host's)"


@dataclass(frozen=True)
class KernelFacts:
    """The kernel's version of control groups with its `controllers`, and the highest number of user namespaces,
    None if the kernel has none.
    """

    cgroups: Literal[1, 2]
    controllers: frozenset[str]
    namespaces: int | None


def check_cgroups(facts: KernelFacts) -> list[Finding]:
    """Check that limits of containers can be enforced."""
    found = []
    missing = [name for name in _NEEDED if name not in facts.controllers]
    if missing:
        names = ", ".join(_NEEDED[name] for name in missing)
        why = f"the kernel does not control {', '.join(missing)}: {names} is not enforced"
        found.append(error("cgroups", why, "see the kernel's command line (cgroup_disable=, cgroup_enable=memory)"))
    elif facts.cgroups == 1:
        why = "control groups of version 1: memory_max does not limit swap"
        found.append(warning("cgroups", why, "boot without systemd.unified_cgroup_hierarchy=0"))
    else:
        found.append(ok("cgroups", "memory, processor time and processes of containers can be limited"))
    if not facts.controllers & {"io", "blkio"}:
        why = "the kernel does not control the disk: io_weight is not enforced"
        found.append(warning("cgroups-io", why, "use a kernel with CONFIG_BLK_CGROUP"))
    return found


def check_namespaces(facts: KernelFacts, shown: Mapping[str, HiveError | None]) -> list[Finding]:
    """Check that containers can have users of their own, for hives that are configured so.

    `shown` has an entry for each directory that is bound into containers and could be tried: the error, or None.
    """
    if facts.namespaces is None:
        remedy = f"use a kernel with CONFIG_USER_NS, or {_OFF}"
        return [error("user-namespaces", "the kernel has no user namespaces", remedy)]
    if facts.namespaces == 0:
        remedy = f"set the sysctl user.max_user_namespaces, or {_OFF}"
        return [error("user-namespaces", "user namespaces are forbidden", remedy)]
    found = [ok("user-namespaces", "containers can have users of their own")]
    for place, problem in shown.items():
        if problem is None:
            found.append(ok("idmap", f"{place} can be shown to containers under other user ids"))
        else:
            found.append(error("idmap", problem.message, problem.hint))
    return found


MIB = 1024**2
GIB = 1024**3
_FILES_LEAST = 1_000


@dataclass(frozen=True)
class DiskSpace:
    """The free space in a directory: bytes, and files that can still be made (None where that is unlimited).

    Less than `least` bytes are an error, less than `enough` are a warning. `reserve_missing` is True if the daemon has
    found no room for its reserve there, which a quota does not show otherwise.
    """

    check: str
    directory: str
    free: int
    files: int | None
    least: int
    enough: int
    remedy: str
    reserve_missing: bool = False


def check_disk_space(space: DiskSpace) -> Finding:
    """Check that there is enough free space."""
    left = f"{space.directory} has {format_bytes(space.free)} left"
    if space.files is not None and space.files < _FILES_LEAST:
        return error(space.check, f"{space.directory} has space for {space.files:,} more files", space.remedy)
    if space.free < space.least:
        return error(space.check, left, space.remedy)
    if space.reserve_missing:
        what = f"{left}, but no room for the daemon's reserve: a quota is used up, or the disk was full just now"
        return error(space.check, what, space.remedy)
    if space.free < space.enough:
        return warning(space.check, left, space.remedy)
    return ok(space.check, left)


def check_mounts(flags: Mapping[str, int]) -> Finding:
    """Check the flags (statvfs(3)) of the mounts that agents can write to.

    Root in a container makes files that are root's on the host, too. Only directories above them, which are closed,
    keep other users of the host from a setuid program there.
    """
    unsafe = [path for path, found in flags.items() if not (found & os.ST_NOSUID and found & os.ST_NODEV)]
    if not unsafe:
        return ok("mount-flags", "what agents write is on mounts with nosuid and nodev")
    what = f"setuid programs and devices of agents have effect on this host: no nosuid, nodev on {', '.join(unsafe)}"
    remedy = (
        "before the daemon starts, mount --bind each directory on itself and mount -o remount,bind,nosuid,nodev it; "
        "the NixOS module does so, except for a file system of its own, whose options you set"
    )
    return warning("mount-flags", what, remedy)


_SOCKET = "host-socket"


@dataclass(frozen=True)
class FilePermissions:
    """The mode, owner and group of a file, as numbers of stat(2)."""

    mode: int
    user: int
    group: int


@dataclass(frozen=True)
class SocketFacts:
    """The permissions of host.sock (None where it does not exist) and of the directories that are the daemon's alone
    (`private`). `group` is the number of `group_name`, None if there is no such group.
    """

    path: str
    socket: FilePermissions | None
    group_name: str
    group: int | None
    private: Mapping[str, FilePermissions]


def check_permissions(facts: SocketFacts) -> list[Finding]:
    """Check that the operators can use the hive, and nobody else."""
    found = [_group(facts)]
    if facts.socket is not None:
        found.append(_socket(facts.path, facts.socket, facts.group))
    for path, door in facts.private.items():
        if door.mode & 0o077:
            what = f"users other than the daemon's may read {path} (mode {stat.S_IMODE(door.mode):04o})"
            found.append(error("private", what, f"chmod 0700 {path}"))
        else:
            found.append(ok("private", f"{path} is the daemon's alone"))
    return found


def _group(facts: SocketFacts) -> Finding:
    if facts.group is not None:
        return ok("group", f"members of the group {facts.group_name} may use the hive")
    what = f"there is no group {facts.group_name}: only the daemon's user may use the hive"
    return warning("group", what, f"groupadd --system {facts.group_name}, or name another one with socket_group")


def _socket(path: str, door: FilePermissions, group: int | None) -> Finding:
    again = "restart the daemon: it makes the socket anew"
    mode = stat.S_IMODE(door.mode)
    if not stat.S_ISSOCK(door.mode):
        return error(_SOCKET, f"{path} is no socket", "remove it and start the daemon")
    if mode & 0o007:
        return error(_SOCKET, f"everybody on this host may use {path} (mode {mode:04o})", again)
    if group is not None and (door.group != group or mode & 0o660 != 0o660):
        return error(_SOCKET, f"{path} is not for that group (mode {mode:04o}, group {door.group})", again)
    return ok(_SOCKET, f"{path} has the right permissions (mode {mode:04o})")
