"""The speed of work on a large repository: an agent's clone, submissions and landings, beside plain git."""

from __future__ import annotations

import os
import subprocess
import time
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.bench_directory import ROOT, say
from tests.benchmarks.bench_hive import BenchHive, hive
from tests.benchmarks.commands import command_line
from tests.benchmarks.figure import Bound, Figure
from tests.benchmarks.plain_git import bare_run, git
from tests.benchmarks.work import large_repository
from tests.benchmarks.work.work_change import PlainChange, WorkChange

FILES = 100_000
HISTORY_BYTES = 500_000_000
CLONE_ROUNDS = 5
ROUNDS = 15

REPOSITORY = "big"

_PATIENCE = 1_800.0
_POLL_SECONDS = 0.005


def run(directory: Path) -> list[Figure]:
    """Register the repository from a path of this host, so that no network is measured."""
    upstream = directory / "upstream.git"
    say(f"making a repository with {FILES:,} files and {HISTORY_BYTES // 10**6} MB of history")
    large_repository.make(upstream, FILES, HISTORY_BYTES)
    with hive(directory / "hive") as running:
        say("registering it")
        _command(running, "repo", "add", REPOSITORY, str(upstream), "--review", "operator")
        cloned, plainly = _clone(running, directory)
        found = _change(running, directory, upstream)
    size = f"{FILES:,} files, {HISTORY_BYTES // 10**6} MB of history"
    at_most_4 = Bound("at most", 4, "ratio")
    beside = "commit-tree, tag -a, update-ref"
    return [
        Figure(f"an agent has its clone: {size}", "s", cloned, plainly, "git clone --shared",
               Bound("at most", 1.5, "ratio")),
        Figure("submit until proposal/N is in place", "ms", found["submit"], found["tag"], beside, at_most_4),
        Figure("  from proposal/N to built/N, without checks", "ms", found["check"], found["tag"], beside),
        Figure("  approve until approved/N is in place", "ms", found["approve"], found["tag"], beside),
        Figure("landing: from approved/N to deployed/N", "ms", found["land"], found["merge"],
               "merge --ff-only, push", at_most_4),
    ]  # fmt: skip


def _clone(running: BenchHive, directory: Path) -> tuple[list[float], list[float]]:
    """Return the seconds from the request for an agent until its clone is there, and those of plain git.

    No clone is removed: for minutes, ext4 passes by each inode that was freed, and so makes files many times slower
    where as many were removed.
    """
    mirror = running.state_dir / "repos" / f"{REPOSITORY}.git"
    ours: list[float] = []
    plain: list[float] = []
    for number in range(CLONE_ROUNDS + 1):
        os.sync()  # Neither of the two pays for what was written before it.
        name = f"clone{number}"
        started = time.perf_counter()
        git(directory, "clone", "--quiet", "--shared", str(mirror), str(directory / name))
        plainly = time.perf_counter() - started
        os.sync()
        started = time.perf_counter()
        _spawn(running, name)
        seconds = time.perf_counter() - started
        running.ask("POST", f"/v1/agents/{name}/stop")
        say(f"clone {number} of {CLONE_ROUNDS}: {seconds:.1f} s, plain git {plainly:.1f} s")
        if number:  # The first round fills the page cache.
            ours.append(seconds)
            plain.append(plainly)
    return ours, plain


def _change(running: BenchHive, directory: Path, upstream: Path) -> dict[str, list[float]]:
    """Return the milliseconds of each step of work and of plain git; the steps of both take turns."""
    _spawn(running, "ada")
    ours, plain = WorkChange(running, "ada", REPOSITORY), PlainChange(directory / "bare", upstream)
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS + 1):
        taken = {
            "tag": 1_000 * bare_run(plain.durable),
            "submit": ours.submit(),
            "check": ours.checked(),
            "approve": ours.approve(),
            "land": ours.landed(),
            "merge": plain.land(),
        }
        say(f"round {number} of {ROUNDS}: {', '.join(f'{what} {taken[what]:.0f} ms' for what in taken)}")
        if number:  # The daemon imports at the first only what it needs for these.
            for what, milliseconds in taken.items():
                found[what].append(milliseconds)
    return found


def _spawn(running: BenchHive, name: str) -> None:
    """Spawn an agent, and return as soon as its clone is in place."""
    clone = running.state_dir / "agents" / name / "code" / REPOSITORY
    give_up = time.monotonic() + _PATIENCE
    running.ask("POST", "/v1/agents", {"name": name, "config": {"backend": "scripted", "repos": [REPOSITORY]}})
    while not clone.exists():
        if time.monotonic() > give_up:
            raise RuntimeError(f"{name} has no clone after {_PATIENCE:.0f} s")
        time.sleep(_POLL_SECONDS)


def _command(running: BenchHive, *arguments: str) -> None:
    command = [*command_line(), "--socket", str(running.host_socket), *arguments]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
