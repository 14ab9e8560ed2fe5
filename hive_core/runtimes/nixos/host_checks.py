"""Checks of the host when the daemon starts, and the assembly of the runtime.

The directories of containers and the variables of their unit differ between releases of NixOS. They are read from the
unit itself: its environment names the directories, and its script the variables.

nspawn uses idmapped mounts for its `idmap` and `rootidmap` binds. They depend on the file system: ext4 and xfs have
them since Linux 5.12, btrfs since 5.15, tmpfs since 6.3, overlayfs and most network file systems not
(mount_setattr(2)).
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_core.errors import HiveError
from hive_core.infra.processes import Command, readable, spawn
from hive_core.infra.systemd.bus import SystemBus
from hive_core.layout import Layout
from hive_core.runtimes.bubblewrap import check_hidden, inspect_host
from hive_core.runtimes.launcher import find_bubblewrap, remedy
from hive_core.runtimes.nixos.build.builder import NixBuilder
from hive_core.runtimes.nixos.commands import run
from hive_core.runtimes.nixos.containers.config_files import check_carried
from hive_core.runtimes.nixos.containers.inspection import HostPaths, unit_name
from hive_core.settings import Settings

_PROGRAMS = {
    "nixos-container": "set boot.enableContainers = true",
    "nix": "install Nix",
    "nix-env": "install Nix",
    "busctl": "run the daemon on a host that was booted with systemd",
    "systemctl": "run the daemon on a host that was booted with systemd",
    "journalctl": "run the daemon on a host that was booted with systemd",
}
_SYSTEMD, _MANAGER = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
_REPORT = "report it, with what systemctl --version prints"
_SAMPLE = "hm1nd"
_ENABLE = "set boot.enableContainers = true in the host's configuration: by itself, NixOS has the unit only where a "
_ENABLE += "container is declared"


@dataclass(frozen=True)
class ContainerUnitInfo:
    """The properties of container@.service. `knows_private_users`: its script uses PRIVATE_USERS; otherwise nspawn gets
    a flag.
    """

    host_paths: HostPaths
    knows_private_users: bool


def check_programs() -> None:
    """Raise HiveError `no_nixos_container` for a program that is not on the daemon's PATH."""
    for program, advice in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise HiveError(
                "no_nixos_container",
                f"the nixos runtime needs the program {program}, which is not on the daemon's PATH",
                hint=f'{advice}, or set runtime = "local" to try the hive on this machine',
            )


async def inspect_unit(script: Path | None = None) -> ContainerUnitInfo:
    """Read container@.service from systemd. Raises HiveError `no_container_unit`, and the errors of the program.

    `script` is read instead of the unit's own.
    """
    unit = unit_name(_SAMPLE)
    load = await unit_properties(unit, "Unit", "LoadState")
    if load["LoadState"] != "loaded":
        raise HiveError(
            "no_container_unit", "systemd does not know container@.service, which runs NixOS containers", hint=_ENABLE
        )
    found = await unit_properties(unit, "Service", "EnvironmentFiles", "Environment", "ExecStart")
    return ContainerUnitInfo(_places(found), "PRIVATE_USERS" in _script(script, found.get("ExecStart")))


async def unit_properties(unit: str, kind: str, *names: str) -> dict[str, Any]:
    """Read properties of a unit over D-Bus, because `systemctl show` prints structured ones as text for people.

    `kind` is `Unit` or that of the unit, such as `Service`. Raises HiveError `command_failed` for a property that
    systemd does not have, and for an answer in a form that is not known.
    """
    path = _first(await _busctl("call", _SYSTEMD, _MANAGER, f"{_SYSTEMD}.Manager", "LoadUnit", "s", unit))
    answers = await _busctl("get-property", _SYSTEMD, path, f"{_SYSTEMD}.{kind}", *names)
    return dict(zip(names, answers, strict=True))


async def _busctl(verb: str, *arguments: str) -> list[Any]:
    """Return the values of the answer, one for each property or call."""
    said = await run(["busctl", "--system", "--json=short", verb, *arguments], timeout=20.0)
    try:
        return [json.loads(line)["data"] for line in said.splitlines() if line.strip()]
    except (ValueError, KeyError, TypeError):
        raise HiveError(
            "command_failed", "busctl --json=short answers in a form that is not known", hint=_REPORT, status=500
        ) from None


def _first(answers: list[Any]) -> str:
    """Return the only value of an answer."""
    match answers:
        case [[str(value)]]:
            return value
    raise HiveError("command_failed", "systemd answers LoadUnit in a form that is not known", hint=_REPORT, status=500)


def _places(found: Mapping[str, Any]) -> HostPaths:
    default = HostPaths()
    files = [one[0] for one in _list(found.get("EnvironmentFiles")) if isinstance(one, list) and one]
    conf = next((Path(file) for file in files if str(file).endswith(f"/{_SAMPLE}.conf")), None)
    variables = dict(str(word).split("=", 1) for word in _list(found.get("Environment")) if "=" in str(word))
    root = variables.get("root", "")
    return HostPaths(
        conf_dir=default.conf_dir if conf is None else conf.parent,
        root_dir=Path(root).parent if root.startswith("/") and root.endswith(f"/{_SAMPLE}") else default.root_dir,
    )


def _script(script: Path | None, exec_start: object) -> str:
    command = next(iter(_list(exec_start)), None)
    if script is None and isinstance(command, list) and command:
        script = Path(str(command[0]))
    try:
        return "" if script is None else script.read_text(errors="replace")
    except OSError:
        return ""


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


_OPEN_TREE, _MOUNT_SETATTR = 428, 442
"""Numbers of the system calls: the same on every architecture but alpha."""
_OPEN_TREE_CLONE = 1
_AT_EMPTY_PATH = 0x1000
_MOUNT_ATTR_IDMAP = 0x00100000
_AT_FDCWD = -100


class _MountAttr(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


async def check_id_mapping(directories: Sequence[Path]) -> None:
    """Raise HiveError `no_idmapped_mounts` for the first directory that cannot be shown under other user ids.

    Where it cannot be tried (no permission, no user namespaces), nothing is raised: the container's start will fail.
    """
    namespace = await _other_users()
    if namespace is None:
        return
    try:
        for directory in directories:
            if _refused(directory, namespace):
                raise HiveError(
                    "no_idmapped_mounts",
                    f"{directory} cannot be bound into containers with user namespaces: its file system, or this "
                    "kernel, has no idmapped mounts",
                    hint="put it on ext4, xfs, btrfs or (since Linux 6.3) tmpfs, or set nixos.user_namespaces = false: "
                    "root in a container is then root's equal on this host",
                )
    finally:
        os.close(namespace)


async def _other_users() -> int | None:
    """Create a user namespace; returns its descriptor, None if that fails."""
    source, feed = os.pipe2(os.O_CLOEXEC)
    try:
        line = ["unshare", "--user", "--map-root-user", "cat"]
        process = spawn(Command(line, {"PATH": os.environ.get("PATH", os.defpath)}, Path("/"), stdin=source))
    except OSError:
        os.close(feed)
        return None
    finally:
        os.close(source)
    try:
        # `cat` sends the byte back when it runs, and the namespace exists by then.
        os.write(feed, b"x")
        await readable(process.output)
        with suppress(OSError):
            if os.read(process.output, 1) == b"x":
                return os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        return None
    finally:
        os.close(feed)
        await process.end()


def _refused(directory: Path, namespace: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | os.O_CLOEXEC)
    tree = libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(directory), flags)
    if tree < 0:
        return ctypes.get_errno() == errno.ENOSYS
    try:
        wanted = _MountAttr(attr_set=_MOUNT_ATTR_IDMAP, userns_fd=namespace)
        size = ctypes.c_size_t(ctypes.sizeof(wanted))
        failed = libc.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), size) < 0
        return failed and ctypes.get_errno() in (errno.EINVAL, errno.ENOSYS)
    finally:
        os.close(tree)


_STORE = Path("/nix/store")


@dataclass(frozen=True)
class NixosParts:
    """The parts of the runtime. `by_flag`: the container's unit does not know PRIVATE_USERS. `confinement` describes
    the confinement of agents in words, `bubblewrap` is the program that confines git at intake.
    """

    bus: SystemBus
    builder: NixBuilder
    host_paths: HostPaths
    by_flag: bool
    confinement: str
    bubblewrap: str


async def open_parts(settings: Settings, layout: Layout) -> NixosParts:
    """Check the host and open the parts. Raises HiveError for what is missing; nothing stays open then."""
    check_programs()
    check_carried([layout.agents, layout.applied, layout.run_dir / "agents"])
    opening = (
        asyncio.create_task(SystemBus.open()),
        asyncio.create_task(NixBuilder.open(settings, layout)),
        asyncio.create_task(inspect_unit()),
        asyncio.create_task(_bubblewrap(layout)),
        asyncio.create_task(_check_idmapping(settings, layout)),
    )
    bus, builder, unit, bubblewrap, _ = opening
    try:
        await asyncio.gather(*opening)
    except BaseException:
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for opened in (bus, builder):
            if not opened.cancelled() and opened.exception() is None:
                await opened.result().close()
        raise
    facts = unit.result()
    users = settings.nixos.user_namespaces
    words = "NixOS containers with user namespaces" if users else "NixOS containers; root in them is root on the host"
    return NixosParts(
        bus=bus.result(),
        builder=builder.result(),
        host_paths=facts.host_paths,
        by_flag=not facts.knows_private_users,
        confinement=words,
        bubblewrap=bubblewrap.result(),
    )


async def _bubblewrap(layout: Layout) -> str:
    host = await asyncio.to_thread(inspect_host)
    check_hidden(host, layout.state_dir)
    bwrap, problem = await find_bubblewrap(host)
    if bwrap is None:
        # The daemon is root, and git must not run as root in a repository that an agent has written.
        raise HiveError(
            "no_sandbox",
            f"what agents propose cannot be read in bubblewrap: {problem}",
            hint=remedy(problem),
        )
    return bwrap


async def _check_idmapping(settings: Settings, layout: Layout) -> None:
    if settings.nixos.user_namespaces:
        places = [layout.agents, layout.run_dir / "agents", layout.applied, _STORE]
        await check_id_mapping([directory for directory in places if directory.is_dir()])
