"""What this host can do for containers, found out once when the daemon starts; what is missing is said with its remedy.

Where containers lie and what their unit understands differs from one NixOS release to another. The unit itself says
it: its environment names the directories, and its script names the variables that it reads.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.commands import run
from hive_core.runtimes.nixos.containers.inspection import Places, unit_name

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
class UnitFacts:
    """`knows_private_users`: the unit's script passes PRIVATE_USERS on; else nspawn has to be told by a flag."""

    places: Places
    knows_private_users: bool


def check_programs() -> None:
    """Raise HiveError `no_nixos_container` for a program that is not on the daemon's PATH."""
    for program, remedy in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise HiveError(
                "no_nixos_container",
                f"the nixos runtime needs the program {program}, which is not on the daemon's PATH",
                hint=f'{remedy}, or set runtime = "local" to try the hive on this machine',
            )


async def look_at_unit(script: Path | None = None) -> UnitFacts:
    """Ask systemd for container@.service. Raises HiveError `no_container_unit`, and what the program raises.

    `script` is read instead of the unit's own.
    """
    unit = unit_name(_SAMPLE)
    load = await unit_properties(unit, "Unit", "LoadState")
    if load["LoadState"] != "loaded":
        raise HiveError(
            "no_container_unit", "systemd does not know container@.service, which runs NixOS containers", hint=_ENABLE
        )
    found = await unit_properties(unit, "Service", "EnvironmentFiles", "Environment", "ExecStart")
    return UnitFacts(_places(found), "PRIVATE_USERS" in _script(script, found.get("ExecStart")))


async def unit_properties(unit: str, kind: str, *names: str) -> dict[str, Any]:
    """Properties of a unit as D-Bus has them: what `systemctl show` makes of those with parts is text for people.

    `kind` is `Unit` or the unit's own, as `Service`. Raises HiveError `command_failed` for a property that systemd does
    not have, and for an answer in a form that is not known.
    """
    path = _first(await _busctl("call", _SYSTEMD, _MANAGER, f"{_SYSTEMD}.Manager", "LoadUnit", "s", unit))
    answers = await _busctl("get-property", _SYSTEMD, path, f"{_SYSTEMD}.{kind}", *names)
    return dict(zip(names, answers, strict=True))


async def _busctl(verb: str, *arguments: str) -> list[Any]:
    """The values that D-Bus answers with, one for each property or call."""
    said = await run(["busctl", "--system", "--json=short", verb, *arguments], timeout=20.0)
    try:
        return [json.loads(line)["data"] for line in said.splitlines() if line.strip()]
    except (ValueError, KeyError, TypeError):
        raise HiveError(
            "command_failed", "busctl --json=short answers in a form that is not known", hint=_REPORT, status=500
        ) from None


def _first(answers: list[Any]) -> str:
    """The one value of a call that answers with one."""
    match answers:
        case [[str(value)]]:
            return value
    raise HiveError("command_failed", "systemd answers LoadUnit in a form that is not known", hint=_REPORT, status=500)


def _places(found: Mapping[str, Any]) -> Places:
    default = Places()
    files = [one[0] for one in _list(found.get("EnvironmentFiles")) if isinstance(one, list) and one]
    conf = next((Path(file) for file in files if str(file).endswith(f"/{_SAMPLE}.conf")), None)
    variables = dict(str(word).split("=", 1) for word in _list(found.get("Environment")) if "=" in str(word))
    root = variables.get("root", "")
    return Places(
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
