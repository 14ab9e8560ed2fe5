"""Tries out what the nixos runtime needs of systemd and Nix. Units that it starts are gone afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil

from hive_core.doctor.looking_programs import BOOTED, ask
from hive_core.doctor.said import Said
from hive_core.doctor.trial_checks import TrialFacts
from hive_core.errors import HiveError
from hive_core.infra.systemd.units import SERVICE_STATE, UNIT_STATE
from hive_core.runtimes.nixos.build.executor import Builders
from hive_core.runtimes.nixos.build.store import Store
from hive_core.runtimes.nixos.host_checks import look_at_unit, unit_properties
from hive_core.settings import Settings

_ALWAYS = "systemd-journald.service"
"""A service that every host with systemd runs."""


async def trials(settings: Settings) -> TrialFacts | None:
    """Try everything that this user can; None where systemd does not run."""
    if not await asyncio.to_thread(BOOTED.is_dir):
        return None
    unit, bus = await asyncio.gather(_unit(), _bus())
    if os.geteuid() != 0:
        return TrialFacts(unit, bus)
    dynamic_user, builds = await asyncio.gather(_dynamic_user(), _builds(settings))
    return TrialFacts(unit, bus, dynamic_user, builds)


async def _unit() -> HiveError | None:
    try:
        await look_at_unit()
    except HiveError as error:
        return error
    return None


async def _bus() -> Said:
    try:
        await asyncio.gather(
            unit_properties(_ALWAYS, "Unit", *UNIT_STATE), unit_properties(_ALWAYS, "Service", *SERVICE_STATE)
        )
    except HiveError as error:
        return Said(failed=error.message)
    return Said("known")


async def _dynamic_user() -> Said:
    program = shutil.which("id") or "/run/current-system/sw/bin/id"
    # `id` ends with 1 if the number of its user belongs to no account.
    return await ask(
        "systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--property=DynamicUser=yes", "--", program, "-un"
    )


async def _builds(settings: Settings) -> bool | HiveError | None:
    """Whether builds are evaluated without privileges, tried as the daemon does it at its start."""
    layout = settings.layout
    if not layout.state_dir.is_dir():
        return None
    try:
        store = await Store.find()
        return (await Builders.find(settings, layout, store, trial="doctor").confinement()).unprivileged
    except HiveError as error:
        return error
