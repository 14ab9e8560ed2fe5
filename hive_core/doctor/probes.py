"""Probes that read the facts of the host and the daemon for the checks."""

from __future__ import annotations

import asyncio
import grp
import os
import platform
import pwd
import shutil
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from hive_core.doctor.findings import CommandOutput
from hive_core.doctor.hive_checks import DaemonFacts, Unanswered
from hive_core.doctor.host_checks import (
    GIB,
    MIB,
    ContainerFacts,
    DiskSpace,
    FilePermissions,
    KernelFacts,
    SocketFacts,
)
from hive_core.doctor.nix_checks import NixFacts
from hive_core.doctor.quota_checks import QuotaFacts
from hive_core.errors import HiveError
from hive_core.infra.disk_quota.quotas import DirectoryQuotas
from hive_core.infra.storage import files
from hive_core.layout import Layout, closure_path
from hive_core.protocol import AgentList, Deployment, History, HiveStatus
from hive_core.runtimes.bubblewrap import inspect_host
from hive_core.runtimes.launcher import probe_bubblewrap
from hive_core.runtimes.nixos.build.nix_settings import SHOW, read_nix_settings
from hive_core.runtimes.nixos.build.unit.confinement import BUILD_USER
from hive_core.runtimes.nixos.commands import environment, run
from hive_core.runtimes.nixos.containers import config_files
from hive_core.runtimes.nixos.host_checks import check_id_mapping

Ask = Callable[[str], dict[str, Any]]
"""Requests a path from the daemon and returns its answer. Raises Unanswered."""


def daemon_facts(ask: Ask) -> DaemonFacts:
    """Ask the daemon for its status, its agents, and the newest deployment of each of them."""
    try:
        status = HiveStatus.model_validate(ask("/v1/status"))
        agents = AgentList.model_validate(ask("/v1/agents")).agents
        newest: dict[str, Deployment] = {}
        for agent in agents:
            history = History.model_validate(ask(f"/v1/agents/{agent.name}/history?limit=1"))
            if history.deployments:
                newest[agent.name] = history.deployments[0]
    except Unanswered as problem:
        return DaemonFacts(problem=problem)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        why = f"the daemon's answer is not understood ({where}): its version differs from that of this program"
        return DaemonFacts(problem=Unanswered("bad_answer", why, "restart the daemon"))
    return DaemonFacts(status, None, agents, newest)


def read_kernel(root: Path = Path("/")) -> KernelFacts:
    """Read the version of control groups with its controllers, and the limit of user namespaces."""
    version, controllers = _cgroups(root)
    return KernelFacts(version, controllers, _namespaces(root))


async def id_mapping_errors(directories: Iterable[Path]) -> dict[str, HiveError | None]:
    """Try to show directories, or those that they will be made in, under other user ids; returns the errors.

    Only root can try it; for other users the result is empty.
    """
    if os.geteuid() != 0:
        return {}
    found: dict[str, HiveError | None] = {}
    for directory in directories:
        try:
            await check_id_mapping([nearest_existing(directory)])
        except HiveError as error:
            found[str(directory)] = error
        else:
            found[str(directory)] = None
    return found


def _cgroups(root: Path) -> tuple[Literal[1, 2], frozenset[str]]:
    unified = root / "sys/fs/cgroup/cgroup.controllers"
    if unified.exists():
        return 2, frozenset(_text(unified).split())
    # name, hierarchy, number of groups, enabled (cgroups(7)); hierarchy 0 is mounted nowhere.
    rows = [line.split() for line in _text(root / "proc/cgroups").splitlines() if not line.startswith("#")]
    return 1, frozenset(row[0] for row in rows if len(row) == 4 and row[1] != "0" and row[3] == "1")


def _namespaces(root: Path) -> int | None:
    text = _text(root / "proc/sys/user/max_user_namespaces").strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


STORE = Path("/nix/store")


def read_socket_facts(layout: Layout, group: str) -> SocketFacts:
    """Read the permissions of host.sock and of the private directories."""
    private = {
        str(path): found for path in (layout.state_dir, layout.run_dir / "agents") if (found := _permissions(path))
    }
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        number = None
    return SocketFacts(str(layout.host_socket), _permissions(layout.host_socket), group, number, private)


_MAKE_ROOM = (
    "these work on a full disk, too: hive-c0re stop NAME stops an agent that fills it, hive-c0re destroy --purge NAME "
    "removes all that an agent has; or remove files of agents below agents/NAME/state"
)


def read_disk_space(layout: Layout, *, store: bool) -> list[DiskSpace]:
    """Read the free space in the state directory, and with `store` in the Nix store."""
    found = [_disk_space("disk-state", layout.state_dir, 256 * MIB, 2 * GIB, _MAKE_ROOM)]
    if found[0] is not None:
        # A daemon makes the directory of intents at its start, and the reserve within seconds.
        missing = _exists(layout.intents) is True and _exists(layout.reserve) is False
        found[0] = replace(found[0], reserve_missing=missing)
    if store:
        collect = "nix-collect-garbage --delete-older-than 14d; closures that agents need are kept"
        found.append(_disk_space("disk-store", STORE, GIB, 10 * GIB, collect))
    return [space for space in found if space is not None]


def read_mount_flags(directories: Iterable[Path]) -> dict[str, int]:
    """Return the mount flags of directories, or of those that they will be made in (statvfs(3))."""
    found = {}
    for directory in directories:
        try:
            found[str(directory)] = os.statvfs(nearest_existing(directory)).f_flag
        except OSError:  # This user cannot see it.
            continue
    return found


def read_quota_facts(layout: Layout, directories: Iterable[Path]) -> QuotaFacts | None:
    """Read whether directories, or those that they will be made in, can have quotas; None if this user cannot."""
    try:
        quotas = DirectoryQuotas()
        problems = {str(path): quotas.problem(nearest_existing(path)) for path in directories}
        return QuotaFacts(problems, nearest_existing(layout.state_dir).stat().st_uid == 0)
    except OSError:
        return None


def started_on(file: Path) -> str | None:
    """Return the closure on which a container is started, from its conf file; "" if that names none, None if this user
    cannot read it. The container's profile is no evidence, because its root may change that.
    """
    try:
        return config_files.conf_value(files.read(file) or "", "SYSTEM_PATH") or ""
    except PermissionError:
        return None
    except OSError:
        return ""


def closure_exists(layout: Layout, closure: str) -> bool | None:
    """Return True if a closure is on the disk; None if this user cannot read that."""
    try:
        closure_path(layout.closures, closure).stat()
    except PermissionError:
        return None
    except OSError:
        return False
    return True


def unreadable(paths: Iterable[Path]) -> list[Path]:
    """Return the directories that this user cannot read."""
    return [path for path in paths if path.is_dir() and not os.access(path, os.R_OK | os.X_OK)]


def nearest_existing(directory: Path) -> Path:
    """Return the directory, or the nearest existing one above it."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory


def _permissions(path: Path) -> FilePermissions | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return FilePermissions(found.st_mode, found.st_uid, found.st_gid)


def _exists(path: Path) -> bool | None:
    """Return None if this user cannot see it."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return True


def _disk_space(check: str, directory: Path, least: int, enough: int, remedy: str) -> DiskSpace | None:
    try:
        found = os.statvfs(nearest_existing(directory))
    except OSError:
        return None
    # Some file systems (btrfs) have no limit of files, and report 0 of them.
    files = found.f_favail if found.f_files else None
    return DiskSpace(check, str(directory), found.f_bavail * found.f_frsize, files, least, enough, remedy)


_SECONDS = 15.0
_SCRIPT_BYTES = 1024 * 1024
NIX_DAEMON = Path("/nix/var/nix/daemon-socket/socket")
BOOTED = Path("/run/systemd/system")
"""Exists where systemd is process 1 (sd_booted(3))."""


async def ask_host(*argv: str) -> CommandOutput:
    """Run a program without input and with a short timeout; returns its output."""
    if shutil.which(argv[0]) is None:
        return CommandOutput(failed=f"{argv[0]} is not installed", missing=True)
    try:
        async with asyncio.timeout(_SECONDS):
            return CommandOutput(await run(argv))
    except TimeoutError:
        return CommandOutput(failed=f"{' '.join(argv)} took longer than {_SECONDS:g} s")
    except HiveError as error:
        return CommandOutput(failed=error.message)


async def relay_problem() -> str:
    """Return why the relay's unit does not run, empty if it does or that is not known."""
    asked = await ask_host("systemctl", "is-active", "hive-relay.service")
    found = (asked.text or asked.failed).strip()
    return (
        "" if found == "active" or asked.missing else f"the relay does not run, so agents with a provider wait: {found}"
    )


async def bubblewrap() -> str:
    """Try to make a sandbox like that of an agent; returns the reason if that fails, else an empty text."""
    found = shutil.which("bwrap")  # Relative if the PATH is, and then the trial fails.
    if found is None:
        return "bubblewrap is not installed"
    return await probe_bubblewrap(found, await asyncio.to_thread(inspect_host))


async def nix() -> NixFacts:
    """Read the version, settings and features of Nix, and connect to its daemon."""
    version = await ask_host("nix", "--version")
    settings: Mapping[str, object] = {}
    unknown = version.failed
    if not version.failed:
        try:
            settings = await read_nix_settings(variables=_of_the_system())
        except HiveError as error:
            unknown = error.message
    groups = groups_of(BUILD_USER)
    return NixFacts(version, probe_socket(NIX_DAEMON), settings, unknown, await _features(), groups)


def _of_the_system() -> dict[str, str]:
    """Return variables with which Nix reads the system's settings only, as its daemon does, not those of this user."""
    return {**environment(), "NIX_USER_CONF_FILES": "", "NIX_CONFIG": ""}


def groups_of(user: str) -> frozenset[str]:
    """Return the names of the groups of a user; without an account the one group of that name, as systemd makes it."""
    try:
        number = pwd.getpwnam(user).pw_gid
    except KeyError:
        return frozenset({user})
    found = set()
    for group in os.getgrouplist(user, number):
        with suppress(KeyError):
            found.add(grp.getgrgid(group).gr_name)
    return frozenset(found)


async def _features() -> frozenset[str] | None:
    """Find out by trial which features are enabled in nix.conf; None if that fails.

    The list in Nix's settings holds numbers in some versions (Nix 2.8, Lix 2.92), and lacks the features that a
    distribution of Nix has made stable.
    """
    plain, older, flakes = await asyncio.gather(
        *(ask_host("nix", *command) for command in SHOW),
        ask_host("nix-instantiate", "--eval", "--expr", "builtins ? getFlake"),
    )
    if flakes.failed or plain.missing:
        return None
    found = {"flakes"} if flakes.text.strip() == "true" else set()
    # Without the feature, every subcommand of `nix` fails.
    return frozenset(found if plain.failed and older.failed else {*found, "nix-command"})


async def containers() -> ContainerFacts:
    """Read the versions of systemd and nspawn, the unit of containers, and the text of `nixos-container`."""
    version, nspawn, unit = await asyncio.gather(
        ask_host("systemctl", "--version"),
        ask_host("systemd-nspawn", "--version"),
        ask_host("systemctl", "show", "container@doctor.service", "--property=LoadState"),
    )
    booted = await asyncio.to_thread(BOOTED.is_dir)
    script = await asyncio.to_thread(_text_of, "nixos-container")
    return ContainerFacts(version, booted, script, unit, nspawn, _release())


def _text_of(program: str) -> str | None:
    """Read a program that is a script; empty if this user cannot read it, None if it is not installed."""
    found = shutil.which(program)
    if found is None:
        return None
    try:
        with Path(found).open("rb") as file:
            return file.read(_SCRIPT_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def probe_socket(path: Path) -> Literal["answers", "absent", "refuses", "forbidden"]:
    """Connect to a unix socket; returns its behaviour."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_SECONDS)
        try:
            client.connect(os.fspath(path))
        except (FileNotFoundError, NotADirectoryError):
            return "absent"
        except PermissionError:
            return "forbidden"
        except OSError:
            return "refuses"
    return "answers"
