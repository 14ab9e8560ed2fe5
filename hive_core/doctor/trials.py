"""Trials on this host of git, D-Bus and the unit of a build."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from hive_core.doctor.findings import CommandOutput
from hive_core.doctor.probes import BOOTED, ask_host
from hive_core.doctor.trial_checks import TrialFacts
from hive_core.errors import HiveError
from hive_core.gate.intake.import_commit import CommitImporter, IntakeLimits
from hive_core.infra.git import objects as git_objects
from hive_core.infra.git.names import TAGS
from hive_core.infra.git.objects import Person, Tag
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from hive_core.infra.systemd.units import SERVICE_STATE, UNIT_STATE
from hive_core.runtimes.nixos.build.build_user import BuildUserSelector
from hive_core.runtimes.nixos.build.store import Store
from hive_core.runtimes.nixos.build.workspace import BuildWorkspace, remove_workspace
from hive_core.runtimes.nixos.host_checks import inspect_unit, unit_properties
from hive_core.settings import LimitCeilings, Settings

_KNOWN_UNIT = "systemd-journald.service"
"""A service that every host with systemd runs."""
_TRIAL = "doctor-"
"""The name of a trial begins with it; the number of the doctor's process follows."""


async def trials(settings: Settings) -> TrialFacts | None:
    """Make the trials that this user can make; None where systemd does not run."""
    if not await asyncio.to_thread(BOOTED.is_dir):
        return None
    unit, bus = await asyncio.gather(_unit(), _bus())
    if os.geteuid() != 0:
        return TrialFacts(unit, bus)
    dynamic_user, builds = await asyncio.gather(_dynamic_user(), _builds(settings))
    return TrialFacts(unit, bus, dynamic_user, builds)


async def _unit() -> HiveError | None:
    try:
        await inspect_unit()
    except HiveError as error:
        return error
    return None


async def _bus() -> CommandOutput:
    try:
        await asyncio.gather(
            unit_properties(_KNOWN_UNIT, "Unit", *UNIT_STATE), unit_properties(_KNOWN_UNIT, "Service", *SERVICE_STATE)
        )
    except HiveError as error:
        return CommandOutput(failed=error.message)
    return CommandOutput("known")


async def _dynamic_user() -> CommandOutput:
    program = shutil.which("id") or "/run/current-system/sw/bin/id"
    # `id` ends with 1 if the number of its user belongs to no account.
    return await ask_host(
        "systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--property=DynamicUser=yes", "--", program, "-un"
    )


async def _builds(settings: Settings) -> bool | HiveError | None:
    """Make the trial build that the daemon makes at its start; returns True if it needed no privileges."""
    layout = settings.layout
    if not layout.state_dir.is_dir():
        return None
    try:
        store = await Store.find()
        await _remove_orphaned(layout.scratch)
        # Another doctor may try at the same time, and a daemon that starts ends all builds that it finds.
        selector = BuildUserSelector.find(settings, layout, store, trial=f"{_TRIAL}{os.getpid()}")
        return (await selector.confinement()).unprivileged
    except HiveError as error:
        return error


async def _remove_orphaned(scratch: Path) -> None:
    """Remove the directories of trials whose doctor was killed."""
    for path in await asyncio.to_thread(_orphaned, scratch):
        await remove_workspace(BuildWorkspace(path))


def _orphaned(scratch: Path) -> list[Path]:
    trials = scratch.glob(f"{_TRIAL}*")
    return [path for path in trials if not Path("/proc", path.name.removeprefix(_TRIAL)).exists()]


_FILES: Mapping[str, bytes] = {"agent.nix": b"{ }\n", "agent.toml": b"", "prompt.md": b"Try git out.\n"}
_LIMITS = IntakeLimits(bytes=1024 * 1024, files=100, ceilings=LimitCeilings())
_AUTHOR = Person("doctor", "doctor@hive")
_TAG = "proposal/1"
_MISSING_COMMIT = "0123456789" * 4


async def why_git_fails(bwrap: str | None) -> str:
    """Import a commit, write a tag, and have a bad tree and a missing commit refused.

    Returns the reason of a failure; empty if all went as expected. `bwrap` confines git, None where that does not work.
    """
    with tempfile.TemporaryDirectory(prefix="hyperhive-") as directory:
        try:
            return await _try(Path(directory), bwrap)
        except HiveError as error:
            return error.message
        except OSError as error:
            return str(error)


async def _try(directory: Path, bwrap: str | None) -> str:
    applied, config = directory / "applied.git", directory / "config"
    base, commit, bad = await asyncio.to_thread(_make, applied, config)
    importer = CommitImporter(bwrap, directory / "scratch", _LIMITS)
    await importer.import_commit(config, applied, commit, base)
    if why := await asyncio.to_thread(_read_back, applied, base, commit):
        return why
    for what, sha, code in (
        ("a tree with .git in it", bad, "bad_tree"),
        ("no commit", _MISSING_COMMIT, "no_such_commit"),
    ):
        try:
            await importer.import_commit(config, applied, sha, base)
        except HiveError as error:
            if error.code != code:
                return f"git refuses {what} with a message that is not known: {error.code}: {error.message}"
        else:
            return f"git imports {what}"
    return ""


def _make(applied: Path, config: Path) -> tuple[str, str, str]:
    """Make both repositories with three commits: the deployed one, a proposal, and one that must be refused."""
    now = int(time.time())
    with Repository.init(applied) as repository:
        base = repository.write_commit(_FILES, parents=[], author=_AUTHOR, when=now, message="First\n")
        repository.update([RefChange("refs/heads/main", base)])
        repository.clone_to(config, base)
    with Repository.open(config / ".git") as repository:
        changed = {**_FILES, "prompt.md": b"Try git out once more.\n"}
        commit = repository.write_commit(changed, parents=[base], author=_AUTHOR, when=now, message="Second\n")
    objects = config / ".git" / "objects"
    blob = git_objects.write_object(objects, "blob", b"x")
    tree = git_objects.write_object(objects, "tree", b"100644 .git\0" + bytes.fromhex(blob))
    bad = git_objects.write_object(objects, "commit", git_objects.commit_bytes(tree, [base], _AUTHOR, now, "Third\n"))
    return base, commit, bad


def _read_back(applied: Path, base: str, commit: str) -> str:
    with Repository.open(applied) as repository:
        tag = repository.write_tag(Tag(_TAG, commit, _AUTHOR, int(time.time()), "Why\n"))
        repository.update([RefChange(TAGS + _TAG, tag), RefChange("refs/heads/main", commit, base)])
        read = [(one.name, one.target, one.message) for one in repository.read_tags([_TAG])]
        if read != [(_TAG, commit, "Why\n")] and read != [(_TAG, commit, "Why")]:
            return f"a tag is read back as something else: {read}"
        if repository.main() != commit or repository.changed_paths(base, commit) != ["prompt.md"]:
            return "a commit is read back as something else"
        diff = repository.diff(base, commit, 10_000)
        if "+Try git out once more." not in diff.text.splitlines():
            return "the diff of a commit is not what it changes"
        return ""
