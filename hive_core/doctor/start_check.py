"""What a start of the daemon would do with a state directory, found out without a change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from hive_core.doctor.probes import nearest_existing
from hive_core.doctor.state_probes import lost_agents
from hive_core.errors import HiveError
from hive_core.infra.database.migrations import STEPS
from hive_core.infra.database.snapshot import read_facts
from hive_core.infra.file_lock import check_unlocked
from hive_core.layout import Layout
from hive_core.runtimes.local.runtime import LocalRuntime
from hive_core.settings import Settings


def describe_start(settings: Settings) -> list[str]:
    """Return what a start would do, in lines. Nothing is changed. Raises HiveError if the daemon would refuse to start.

    With the nixos runtime the host is not checked, because that takes trials: `hive-c0re doctor` does that.
    """
    layout = settings.layout
    layout.check_socket_lengths()
    _check_directories(layout)
    check_unlocked(layout)
    told = _describe_database(layout)
    if settings.runtime == "local":
        asyncio.run(_check_local_runtime(settings, layout))
    return told


def _describe_database(layout: Layout) -> list[str]:
    newest = len(STEPS)
    if not layout.database.exists():
        facts, told = None, f"would start with a new, empty hive in {layout.state_dir}"
    else:
        facts = read_facts(layout.database)
        if 0 < facts.schema < newest:
            told = f"would start and migrate the database from schema {facts.schema} to {newest}"
        else:
            told = f"would start with the database as it is, schema {facts.schema or newest}"
        told += f"; agents: {len(facts.agents)}"
    lost = lost_agents(layout, facts)
    return [told, f"the database knows nothing of {names_in_words(lost)}: restore it first"] if lost else [told]


def names_in_words(names: Sequence[str]) -> str:
    """Return the first few names as text."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _check_directories(layout: Layout) -> None:
    for directory in (layout.state_dir, layout.run_dir):
        found: Path = nearest_existing(directory)
        if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
            raise HiveError(
                "no_directory",
                f"cannot create or use {directory}",
                hint="choose others with --state-dir and --run-dir, or start the daemon as root",
            )


async def _check_local_runtime(settings: Settings, layout: Layout) -> None:
    runtime = await LocalRuntime.open(settings.sandbox, closures=layout.closures, scratch=layout.scratch)
    await runtime.close()
