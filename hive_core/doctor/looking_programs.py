"""Looks at programs of the host, by asking them."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path
from typing import Literal

from hive_core.doctor.containers import ContainerFacts
from hive_core.doctor.nix import NixFacts
from hive_core.doctor.said import Said
from hive_core.errors import HiveError
from hive_core.runtimes.confined import why_not
from hive_core.runtimes.nixos.commands import run
from hive_core.runtimes.sandbox import look

_SECONDS = 15.0
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
    # The later name first: newer ones still know the older one, but warn.
    version, config = await asyncio.gather(ask("nix", "--version"), ask("nix", "config", "show"))
    if config.failed and not config.missing:
        config = await ask("nix", "show-config")
    return NixFacts(version, config, knock(NIX_DAEMON))


async def containers() -> ContainerFacts:
    """What systemd says, and whether there is `nixos-container`."""
    version, unit = await asyncio.gather(
        ask("systemctl", "--version"), ask("systemctl", "show", "container@doctor.service", "--property=LoadState")
    )
    return ContainerFacts(
        version, await asyncio.to_thread(BOOTED.is_dir), shutil.which("nixos-container") is not None, unit
    )


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
