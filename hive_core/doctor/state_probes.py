"""Probes of a state directory: its database, what a start would do with it, and the programs of backends."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from hive_core.doctor.hive_checks import CredentialFacts, StateFacts
from hive_core.doctor.probes import nearest_existing
from hive_core.errors import HiveError
from hive_core.infra.database.migrations import STEPS
from hive_core.infra.database.snapshot import DatabaseFacts, read_facts, read_facts_in_use
from hive_core.infra.storage.credential_keys import open_keys, why_not_sealed
from hive_core.infra.storage.file_lock import check_state_unlocked, check_unlocked
from hive_core.layout import Layout
from hive_core.protocol.base import Backend
from hive_core.runtimes.agent_environment import SEARCH_PATH
from hive_core.runtimes.local.runtime import LocalRuntime
from hive_core.settings import Settings
from hive_core.text import shown

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


def unusable_keys(settings: Settings) -> dict[str, str]:
    """Return why the relay that the daemon starts cannot use keys of providers, by their names; {} under systemd."""
    names = {key for provider in settings.relay.providers.values() for key in provider.keys}
    directory = settings.relay.credentials
    if directory is None:
        return {} if settings.runtime == "nixos" else dict.fromkeys(names, "the setting relay.credentials is missing")
    found = {}
    for name in sorted(names):
        try:
            facts = (directory / name).lstat()
        except OSError as error:
            found[name] = f"{shown(str(directory / name))}: {error.strerror}"
            continue
        if not stat.S_ISREG(facts.st_mode) or facts.st_mode & 0o077:
            found[name] = f"{shown(str(directory / name))} must be a file of the mode 0600, which nobody else can read"
    return found


async def read_credentials(layout: Layout) -> CredentialFacts:
    """Return the keys of the hive's credentials, and whether this host can open them."""
    try:
        keys, problems = await open_keys(layout.credentials / "keys")
    except OSError as error:
        return CredentialFacts(problems=[f"the keys cannot be read: {os.strerror(error.errno or 0)}"])
    current = keys[-1].protection if keys else None
    return CredentialFacts(
        current,
        await why_not_sealed() if current == "key-file" else "",
        tuple(f"{problem.identifier}: {problem.reason}" for problem in problems),
    )


def missing_programs(passed: Iterable[str]) -> dict[str, str]:
    """Return the programs of backends that agents of the local runtime do not find on this host, by backend.

    A program that a variable of the daemon's environment names, one of `passed`, is not looked for.
    """
    missing = {name: name for name in PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None}
    if find_spec("claude_agent_sdk") is not None:  # The package has the program.
        missing.pop("claude", None)
    return {name: program for name, program in missing.items() if f"HIVE_{name.upper()}" not in passed}


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
