"""Probes that read the facts of the host and the daemon for the checks."""

from __future__ import annotations

import asyncio
import grp
import os
import platform
import shutil
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from hive_core.doctor.findings import CommandOutput
from hive_core.doctor.hive_checks import DaemonFacts, Unanswered
from hive_core.doctor.host_checks import GIB, MIB, ContainerFacts, DiskSpace, FilePermissions, KernelFacts, SocketFacts
from hive_core.doctor.nix_checks import NixFacts
from hive_core.errors import HiveError
from hive_core.infra import files
from hive_core.layout import Layout
from hive_core.protocol import AgentList, Deployment, History, HiveStatus
from hive_core.runtimes.bubblewrap import inspect_host
from hive_core.runtimes.launcher import probe_bubblewrap
from hive_core.runtimes.nixos.build.nix_settings import SHOW, read_nix_settings
from hive_core.runtimes.nixos.commands import run
from hive_core.runtimes.nixos.containers import config_files
from hive_core.runtimes.nixos.host_checks import check_id_mapping

Ask = Callable[[str], dict[str, Any]]
"""Asks the daemon for a path: its answer. Raises Unanswered."""


def daemon_facts(ask: Ask) -> DaemonFacts:
    """What the daemon says of itself, of its agents, and of what it deployed last for each of them."""
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
        why = f"the daemon's answer is not understood ({where}): it is another version than this program"
        return DaemonFacts(problem=Unanswered("bad_answer", why, "restart the daemon"))
    return DaemonFacts(status, None, agents, newest)


def read_kernel(root: Path = Path("/")) -> KernelFacts:
    """What the kernel offers."""
    version, controllers = _cgroups(root)
    return KernelFacts(version, controllers, _namespaces(root))


async def shown_to_containers(places: Iterable[Path]) -> dict[str, HiveError | None]:
    """Why directories, or those in which they are to be, cannot be shown under other user ids: tried out, as root."""
    if os.geteuid() != 0:
        return {}
    found: dict[str, HiveError | None] = {}
    for directory in places:
        try:
            await check_id_mapping([existing(directory)])
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
    """Who may get in."""
    private = {str(path): found for path in (layout.state_dir, layout.run_dir / "agents") if (found := _door(path))}
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        number = None
    return SocketFacts(str(layout.host_socket), _door(layout.host_socket), group, number, private)


def read_disk_space(layout: Layout, *, store: bool) -> list[DiskSpace]:
    """What is free in the state directory, and with `store` in the Nix store."""
    purge = "remove what is not needed; hive-c0re destroy --purge removes all of an agent"
    found = [_room("disk-state", layout.state_dir, 256 * MIB, 2 * GIB, purge)]
    if store:
        collect = "nix-collect-garbage --delete-older-than 14d; closures that agents need are kept"
        found.append(_room("disk-store", STORE, GIB, 10 * GIB, collect))
    return [space for space in found if space is not None]


def started_on(file: Path) -> str | None:
    """The closure on which a container is started, as its conf file has it; "" if that names none, None if this user
    cannot see it. The container's profile, which its root may change, says nothing of that.
    """
    try:
        return config_files.conf_value(files.read(file) or "", "SYSTEM_PATH") or ""
    except PermissionError:
        return None
    except OSError:
        return ""


def closure_exists(closure: str) -> bool | None:
    """Whether a closure is on the disk; None if this user cannot see that."""
    try:
        Path(closure).stat()
    except PermissionError:
        return None
    except OSError:
        return False
    return True


def unseen(paths: Iterable[Path]) -> list[Path]:
    """Directories into which this user cannot look."""
    return [path for path in paths if path.is_dir() and not os.access(path, os.R_OK | os.X_OK)]


def existing(directory: Path) -> Path:
    """The place, or the nearest directory above it that there is."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory


def _door(path: Path) -> FilePermissions | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return FilePermissions(found.st_mode, found.st_uid, found.st_gid)


def _room(check: str, directory: Path, least: int, enough: int, remedy: str) -> DiskSpace | None:
    try:
        found = os.statvfs(existing(directory))
    except OSError:
        return None
    # Some file systems (btrfs) have no bound of files, and say that there are none.
    files = found.f_favail if found.f_files else None
    return DiskSpace(check, str(directory), found.f_bavail * found.f_frsize, files, least, enough, remedy)


_SECONDS = 15.0
_SCRIPT_BYTES = 1024 * 1024
NIX_DAEMON = Path("/nix/var/nix/daemon-socket/socket")
BOOTED = Path("/run/systemd/system")
"""There where systemd is process 1 (sd_booted(3))."""


async def ask_host(*argv: str) -> CommandOutput:
    """What the program answers; it gets no input and not long."""
    if shutil.which(argv[0]) is None:
        return CommandOutput(failed=f"{argv[0]} is not installed", missing=True)
    try:
        async with asyncio.timeout(_SECONDS):
            return CommandOutput(await run(argv))
    except TimeoutError:
        return CommandOutput(failed=f"{' '.join(argv)} took longer than {_SECONDS:g} s")
    except HiveError as error:
        return CommandOutput(failed=error.message)


async def bubblewrap() -> str:
    """Why no sandbox like that of an agent can be made; empty if one can."""
    found = shutil.which("bwrap")  # Absolute, unless the PATH is not: then the trial tells.
    if found is None:
        return "bubblewrap is not installed"
    return await probe_bubblewrap(found, await asyncio.to_thread(inspect_host))


async def nix() -> NixFacts:
    """What Nix says of itself."""
    version = await ask_host("nix", "--version")
    settings: Mapping[str, object] = {}
    unknown = version.failed
    if not version.failed:
        try:
            settings = await read_nix_settings()
        except HiveError as error:
            unknown = error.message
    return NixFacts(version, probe_socket(NIX_DAEMON), settings, unknown, await _features())


async def _features() -> frozenset[str] | None:
    """Which features are switched on in nix.conf, tried out: the list in Nix's settings holds numbers in some versions
    (Nix 2.8, Lix 2.92), and lacks what a distribution of Nix has made stable.
    """
    plain, older, flakes = await asyncio.gather(
        *(ask_host("nix", *command) for command in SHOW),
        ask_host("nix-instantiate", "--eval", "--expr", "builtins ? getFlake"),
    )
    if flakes.failed or plain.missing:
        return None
    found = {"flakes"} if flakes.text.strip() == "true" else set()
    # Without the feature, every command of the new kind fails.
    return frozenset(found if plain.failed and older.failed else {*found, "nix-command"})


async def containers() -> ContainerFacts:
    """What systemd says, and whether there is `nixos-container`."""
    version, nspawn, unit = await asyncio.gather(
        ask_host("systemctl", "--version"),
        ask_host("systemd-nspawn", "--version"),
        ask_host("systemctl", "show", "container@doctor.service", "--property=LoadState"),
    )
    booted = await asyncio.to_thread(BOOTED.is_dir)
    script = await asyncio.to_thread(_text_of, "nixos-container")
    return ContainerFacts(version, booted, script, unit, nspawn, _release())


def _text_of(program: str) -> str | None:
    """Read a program that is a script; empty if this user cannot, None if it is not installed."""
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
    """How a unix socket behaves when somebody connects to it."""
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
