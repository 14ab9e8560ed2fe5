"""Judges the programs that every hive needs: git, which keeps the gate's state, and bubblewrap, which confines."""

from __future__ import annotations

from hive_core.doctor.findings import Finding, error, ok, warning
from hive_core.doctor.said import Said, dotted, version
from hive_core.settings import Settings

GIT_LEAST = (2, 36)
"""The first git that syncs refs to the disk (core.fsync)."""


def judge_git(said: Said) -> Finding:
    """Whether git is there and new enough."""
    remedy = f"install git {dotted(GIT_LEAST)} or newer where the daemon finds it (its PATH)"
    if said.missing:
        return error("git", "git is not installed", remedy)
    found = version(said)
    if said.failed or not found:
        return error("git", f"git does not say its version: {said.failed or said.text.strip()[:80]!r}", remedy)
    if found < GIT_LEAST:
        return error("git", f"git is {dotted(found)}, too old", remedy)
    return ok("git", f"git is {dotted(found)}")


def judge_bubblewrap(problem: str, settings: Settings, said: Said) -> Finding:
    """Whether bubblewrap works; `problem` says why not, and `said` answers `bwrap --version`.

    The nixos runtime has containers, and needs it for intake.
    """
    if not problem:
        number = version(said)
        return ok("bubblewrap", f"bubblewrap works, version {dotted(number)}" if number else "bubblewrap works")
    remedy = "install bubblewrap and allow unprivileged user namespaces"
    if settings.runtime == "nixos":
        return warning("bubblewrap", f"git reads what agents propose without confinement: {problem}", remedy)
    if settings.sandbox == "none":
        return warning("bubblewrap", 'agents are not confined: sandbox = "none"', 'set sandbox = "bubblewrap"')
    if settings.sandbox == "bubblewrap":
        return error("bubblewrap", f'sandbox = "bubblewrap", and the daemon cannot start: {problem}', remedy)
    return warning("bubblewrap", f"agents run as plain processes, not confined: {problem}", remedy)
