"""Checks of the results of trials, and the trials that every machine can make."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hive_core.doctor import trials
from hive_core.doctor.findings import CommandOutput, Severity
from hive_core.doctor.trial_checks import TrialFacts, check_git_trial, check_trials
from hive_core.doctor.trials import why_git_fails
from hive_core.errors import HiveError
from hive_core.infra.git.command import SAFE
from hive_core.settings import NixOS, Settings
from tests.unit.core.doctor.test_host_checks import severities

WELL: dict[str, Any] = {
    "unit": None,
    "bus": CommandOutput("known"),
    "dynamic_user": CommandOutput("run-u7"),
    "builds": True,
}
REFUSED = HiveError("no_build_user", "builds cannot be evaluated", hint="start the Nix daemon", status=500)


@pytest.mark.parametrize(
    ("changes", "build_user", "found"),
    [
        ({}, "auto", {"dbus": "ok", "dynamic-user": "ok", "build-unit": "ok"}),
        ({"dynamic_user": None, "builds": None}, "auto", {"dbus": "ok", "build-unit": "warning"}),
        ({"bus": CommandOutput(failed="no such property")}, "auto", {"dbus": "error"}),
        ({"unit": HiveError("command_failed", "in a form that is not known")}, "auto", {"dbus": "error"}),
        ({"unit": HiveError("no_container_unit", "not there")}, "auto", {"dbus": "ok"}),
        ({"dynamic_user": CommandOutput(failed="id: cannot find name")}, "auto", {"dynamic-user": "warning"}),
        ({"dynamic_user": CommandOutput(failed="id: cannot find name")}, "root", {"dynamic-user": "ok"}),
        ({"builds": False}, "auto", {"build-unit": "warning"}),
        ({"builds": False}, "root", {"build-unit": "ok"}),
        ({"builds": REFUSED}, "dynamic", {"build-unit": "error"}),
    ],
)
def test_results_of_trials(changes: dict[str, Any], build_user: Any, found: dict[str, Severity]) -> None:
    """Each trial has a finding of its own; that this user cannot try a build is a warning."""
    settings = Settings(runtime="nixos", nixos=NixOS(build_user=build_user))
    judged = severities(check_trials(TrialFacts(**{**WELL, **changes}), settings))
    assert {check: judged[check] for check in found} == found
    assert ("dynamic-user" in judged) is (changes.get("dynamic_user", WELL["dynamic_user"]) is not None)


@pytest.mark.parametrize("confined", [False, True])
async def test_the_git_of_this_machine(confined: bool) -> None:
    """The installed git does what the gate needs, confined or not."""
    bwrap = shutil.which("bwrap") if confined else None
    assert await why_git_fails(bwrap) == ""
    assert check_git_trial("").severity == "ok"


@pytest.mark.parametrize(
    ("what", "word"),
    [
        # Another format of the answer for objects, and another text of fsck's refusal.
        ("""case "$*" in *cat-file*) exec "$git" "$@" | sed "s/^\\([0-9a-f]*\\) /\\1: /" ;; esac""", ""),
        ("""case "$*" in *index-pack*) "$git" "$@" 2>/dev/null; exit ;; esac""", "a message that is not known"),
        ("""case "$*" in *update-ref*) exit 1 ;; esac""", ""),
    ],
)
async def test_a_git_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, word: str) -> None:
    """Another format, another message and a command that fails are each reported by the trial."""
    program = tmp_path / "git"
    program.write_text(f'#!/bin/sh\ngit={shutil.which("git")}\n{what}\nexec $git "$@"\n')
    program.chmod(0o755)
    # The first one makes git wait for ever for what it does not understand.
    monkeypatch.setattr(trials, "_LIMITS", replace(trials._LIMITS, seconds=5.0))
    path = f"{tmp_path}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    for module in ("quarantine", "command"):
        monkeypatch.setattr(f"hive_core.infra.git.{module}.SAFE", {**SAFE, "PATH": path})
    problem = await why_git_fails(None)
    assert problem and word in problem
    finding = check_git_trial(problem)
    assert finding.severity == "error" and problem in finding.what


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_orphaned_trials_are_removed(tmp_path: Path) -> None:
    """The directory of a doctor that was killed is removed, that of one that runs stays."""
    with subprocess.Popen(["true"]) as ended:  # noqa: ASYNC220 - it ends at once
        pass
    for pid in (ended.pid, os.getpid()):
        (tmp_path / f"doctor-{pid}" / "flake").mkdir(parents=True)
    await trials._remove_orphaned(tmp_path)
    assert names(tmp_path) == [f"doctor-{os.getpid()}"]
