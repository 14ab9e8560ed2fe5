"""Probes of what the hive's agents need: the database, and the programs of backends."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from importlib.util import find_spec
from typing import get_args

from hive_core.doctor.hive_checks import StateFacts
from hive_core.errors import HiveError
from hive_core.infra.database.snapshot import DatabaseFacts, read_facts, read_facts_in_use
from hive_core.infra.file_lock import check_state_unlocked
from hive_core.layout import Layout
from hive_core.protocol.base import Backend
from hive_core.runtimes.agent_environment import SEARCH_PATH

PROGRAMS = tuple(name for name in get_args(Backend) if name != "scripted")
"""The backends that need a program, which have its name."""


def read_state(layout: Layout) -> StateFacts:
    """Read facts about the database, also while a daemon writes it."""
    facts: DatabaseFacts | None = None
    try:
        if layout.database.exists():
            try:
                check_state_unlocked(layout)
            except HiveError:
                facts = read_facts_in_use(layout.database)
            else:
                facts = read_facts(layout.database)
    except HiveError as error:
        # A daemon that lets nobody else read the database has checked it at its start.
        return StateFacts() if error.code == "database_locked" else StateFacts(problem=error)
    return StateFacts(None if facts is None else facts.schema, None, lost_agents(layout, facts))


def lost_agents(layout: Layout, facts: DatabaseFacts | None) -> list[str]:
    """Return the names of applied repositories of which a database knows nothing."""
    known = frozenset[str]() if facts is None else facts.names
    try:
        names = {path.name.removesuffix(".git") for path in layout.applied.iterdir() if path.name.endswith(".git")}
    except OSError:
        return []
    return sorted(names - known)


def missing_programs(passed: Iterable[str]) -> dict[str, str]:
    """Return the programs of backends that agents of the local runtime do not find on this host, by backend.

    A program that a variable of the daemon's environment names, one of `passed`, is not looked for.
    """
    missing = {name: name for name in PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None}
    if find_spec("claude_agent_sdk") is not None:  # The package has the program.
        missing.pop("claude", None)
    return {name: program for name, program in missing.items() if f"HIVE_{name.upper()}" not in passed}
