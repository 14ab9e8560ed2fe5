"""What the nixos runtime needs of its host, opened or found out side by side when the daemon starts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.systemd.bus import SystemBus
from hive_core.layout import Layout
from hive_core.runtimes.bubblewrap import check_hidden, look
from hive_core.runtimes.confined import find_bubblewrap, remedy
from hive_core.runtimes.nixos import idmapping
from hive_core.runtimes.nixos.binds import check_carried
from hive_core.runtimes.nixos.build.builder import NixBuilder
from hive_core.runtimes.nixos.containers.inspection import Places
from hive_core.runtimes.nixos.host_checks import check_programs, look_at_unit
from hive_core.settings import Settings

_STORE = Path("/nix/store")


@dataclass(frozen=True)
class Parts:
    """`by_flag`: the container's unit does not know PRIVATE_USERS. `confinement` says in words how agents are confined,
    `bubblewrap` is the program that confines git at intake.
    """

    bus: SystemBus
    builder: NixBuilder
    places: Places
    by_flag: bool
    confinement: str
    bubblewrap: str


async def open_parts(settings: Settings, layout: Layout) -> Parts:
    """Raises HiveError for whatever is missing, with the remedy; what was opened is closed then."""
    check_programs()
    check_carried([layout.agents, layout.applied, layout.run_dir / "agents"])
    opening = (
        asyncio.create_task(SystemBus.open()),
        asyncio.create_task(NixBuilder.open(settings, layout)),
        asyncio.create_task(look_at_unit()),
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
    return Parts(
        bus=bus.result(),
        builder=builder.result(),
        places=facts.places,
        by_flag=not facts.knows_private_users,
        confinement=words,
        bubblewrap=bubblewrap.result(),
    )


async def _bubblewrap(layout: Layout) -> str:
    host = await asyncio.to_thread(look)
    check_hidden(host, layout.state_dir)
    bwrap, problem = await find_bubblewrap(host)
    if bwrap is None:
        # The daemon is root: git must not be, in a repository that an agent has written.
        raise HiveError(
            "no_sandbox",
            f"what agents propose cannot be read in bubblewrap: {problem}",
            hint=remedy(problem),
        )
    return bwrap


async def _check_idmapping(settings: Settings, layout: Layout) -> None:
    if settings.nixos.user_namespaces:
        places = [layout.agents, layout.run_dir / "agents", layout.applied, _STORE]
        await idmapping.check([place for place in places if place.is_dir()])
