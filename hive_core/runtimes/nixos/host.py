"""What this host can do for containers, found out once when the daemon starts; what is missing is said with its remedy.

Where containers lie and what their unit understands differs from one NixOS release to another. The unit itself says
it: its environment names the directories, and its script names the variables that it reads.
"""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.commands import run
from hive_core.runtimes.nixos.places import Places, unit_name

_PROGRAMS = {
    "nixos-container": "set boot.enableContainers = true",
    "nix": "install Nix",
    "nix-env": "install Nix",
    "systemctl": "run the daemon on a host that was booted with systemd",
    "journalctl": "run the daemon on a host that was booted with systemd",
}
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
    asked = ("LoadState", "EnvironmentFiles", "Environment", "ExecStart")
    flags = [f"--property={name}" for name in asked]
    said = await run(["systemctl", "show", *flags, unit_name(_SAMPLE)], timeout=20.0)
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    if found.get("LoadState") != "loaded":
        raise HiveError(
            "no_container_unit", "systemd does not know container@.service, which runs NixOS containers", hint=_ENABLE
        )
    return UnitFacts(_places(found), "PRIVATE_USERS" in _script(script, found.get("ExecStart", "")))


def _places(found: dict[str, str]) -> Places:
    default = Places()
    conf = re.match(rf"(/.*)/{_SAMPLE}\.conf( \(|$)", found.get("EnvironmentFiles", ""))
    root = next((word[5:] for word in _words(found.get("Environment", "")) if word.startswith("root=/")), "")
    return Places(
        conf_dir=Path(conf[1]) if conf else default.conf_dir,
        root_dir=Path(root).parent if root.endswith(f"/{_SAMPLE}") else default.root_dir,
    )


def _script(script: Path | None, exec_start: str) -> str:
    path = re.search(r"\bpath=(/[^ ;]+)", exec_start)
    if script is None and path is not None:
        script = Path(path[1])
    try:
        return "" if script is None else script.read_text(errors="replace")
    except OSError:
        return ""


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
