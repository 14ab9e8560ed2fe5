"""Looks at programs of the host, by asking them."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from hive_core.doctor.containers import ContainerFacts
from hive_core.doctor.nix_checks import NixFacts
from hive_core.doctor.said import Said
from hive_core.errors import HiveError
from hive_core.runtimes.bubblewrap import look
from hive_core.runtimes.confined import why_not
from hive_core.runtimes.nixos.build.nix_settings import SHOW, read_nix_settings
from hive_core.runtimes.nixos.commands import run

_SECONDS = 15.0
_SCRIPT_BYTES = 1024 * 1024
NIX_DAEMON = Path("/nix/var/nix/daemon-socket/socket")
BOOTED = Path("/run/systemd/system")
"""There where systemd is process 1 (sd_booted(3))."""


async def ask(*argv: str) -> Said:
    """What the program answers; it gets no input and not long."""
    if shutil.which(argv[0]) is None:
        return Said(failed=f"{argv[0]} is not installed", missing=True)
    try:
        async with asyncio.timeout(_SECONDS):
            return Said(await run(argv))
    except TimeoutError:
        return Said(failed=f"{' '.join(argv)} took longer than {_SECONDS:g} s")
    except HiveError as error:
        return Said(failed=error.message)


async def bubblewrap() -> str:
    """Why no sandbox like that of an agent can be made; empty if one can."""
    found = shutil.which("bwrap")  # Absolute, unless the PATH is not: then the trial tells.
    if found is None:
        return "bubblewrap is not installed"
    return await why_not(found, await asyncio.to_thread(look))


async def nix() -> NixFacts:
    """What Nix says of itself."""
    version = await ask("nix", "--version")
    settings: Mapping[str, object] = {}
    unknown = version.failed
    if not version.failed:
        try:
            settings = await read_nix_settings()
        except HiveError as error:
            unknown = error.message
    return NixFacts(version, knock(NIX_DAEMON), settings, unknown, await _features())


async def _features() -> frozenset[str] | None:
    """Which features are switched on in nix.conf, tried out: the list in Nix's settings holds numbers in some versions
    (Nix 2.8, Lix 2.92), and lacks what a distribution of Nix has made stable.
    """
    plain, older, flakes = await asyncio.gather(
        *(ask("nix", *command) for command in SHOW),
        ask("nix-instantiate", "--eval", "--expr", "builtins ? getFlake"),
    )
    if flakes.failed or plain.missing:
        return None
    found = {"flakes"} if flakes.text.strip() == "true" else set()
    # Without the feature, every command of the new kind fails.
    return frozenset(found if plain.failed and older.failed else {*found, "nix-command"})


async def containers() -> ContainerFacts:
    """What systemd says, and whether there is `nixos-container`."""
    version, nspawn, unit = await asyncio.gather(
        ask("systemctl", "--version"),
        ask("systemd-nspawn", "--version"),
        ask("systemctl", "show", "container@doctor.service", "--property=LoadState"),
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


def knock(path: Path) -> Literal["answers", "absent", "refuses", "forbidden"]:
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
