"""Plain git as a reference: what a person would type for one change, one tag and one ref, each a process."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

_IDENTITY = {f"GIT_{role}_{what}": "bench@hive" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(
    directory: Path,
    *arguments: str,
    feed: bytes | None = None,
    more: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> str:
    """Run git in a repository, with nobody's settings; what it printed. Its environment has `more`.

    With `quiet` its warnings are not shown. Raises CalledProcessError.
    """
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    environment = {**os.environ, **_IDENTITY, **nobody, **(more or {})}
    command = ["git", "-C", str(directory), *arguments]
    errors = subprocess.DEVNULL if quiet else None
    done = subprocess.run(command, check=True, env=environment, input=feed, stdout=subprocess.PIPE, stderr=errors)
    return done.stdout.decode().strip()


def bare_run(repository: Path) -> float:
    """One `git commit-tree`, one `git tag -a` and one `git update-ref`: seconds. Leaves no ref behind."""
    started = time.perf_counter()
    commit = git(repository, "commit-tree", "-p", "main", "-m", f"bench {started}", "main^{tree}")
    git(repository, "tag", "-a", "-m", "A change to look at", "bench", commit)
    git(repository, "update-ref", "refs/heads/bench", commit)
    seconds = time.perf_counter() - started
    git(repository, "tag", "-d", "bench")
    git(repository, "update-ref", "-d", "refs/heads/bench")
    return seconds
