"""Changes of a repository, each step timed: an agent's that the operator approves, and the same with plain git."""

from __future__ import annotations

import time
from pathlib import Path

from tests.benchmarks.bench_hive import BenchHive
from tests.benchmarks.plain_git import git

_PATIENCE = 60.0
_CHANGED = "d0/d0/f0.txt"


class WorkChange:
    """One agent's work. Every step gives the milliseconds until it was done."""

    def __init__(self, hive: BenchHive, agent: str, repository: str) -> None:
        self._hive = hive
        self._agent = agent
        self._repository = repository
        self._clone = hive.state_dir / "agents" / agent / "code" / repository
        self._mirror = hive.state_dir / "repos" / f"{repository}.git"
        self._work = hive.state_dir / "work" / f"{repository}.git"
        self._number = 0
        self._commit = ""

    def submit(self) -> float:
        """Commit a change (not timed) and submit it; `proposal/N` is there then."""
        # The clone borrows from the mirror at its path inside of the sandbox.
        borrowed = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self._mirror / "objects")}
        self._commit = commit_change(self._clone, self._number + 1, borrowed)
        request = {"repo": self._repository, "commit": self._commit, "title": "A change", "description": "A remark"}
        started = time.perf_counter()
        answer = self._hive.ask("POST", "/v1/work", request, self._agent)
        milliseconds = _since(started)
        self._number = answer["number"]
        self._check("proposal")
        return milliseconds

    def checked(self) -> float:
        """Wait until the work waits for its decision."""
        return self._wait("proposal", "building")

    def approve(self) -> float:
        """Approve it; `approved/N` is there then."""
        started = time.perf_counter()
        self._hive.ask("POST", f"{self._path}/approve", {"expect": "built"})
        milliseconds = _since(started)
        self._check("approved")
        return milliseconds

    def landed(self) -> float:
        """Wait until the branch of the mirror has the commit, and this is recorded."""
        milliseconds = self._wait("approved")
        self._check("deployed")
        assert git(self._mirror, "rev-parse", "refs/heads/main") == self._commit
        return milliseconds

    @property
    def _path(self) -> str:
        return f"/v1/work/{self._repository}/{self._number}"

    def _wait(self, *states: str) -> float:
        """Wait until the work has left all of `states`, one after another."""
        started = time.perf_counter()
        for state in states:
            self._hive.ask("GET", f"{self._path}?unlike={state}&wait_seconds={_PATIENCE:g}")
        return _since(started)

    def _check(self, state: str) -> None:
        """See that the tag is in place, as what was timed promises."""
        git(self._work, "rev-parse", "--verify", "--quiet", f"refs/tags/{state}/{self._number}")


class PlainChange:
    """A person who merges a branch and pushes it to a bare repository on the same disk.

    `durable` is another bare repository, in which git syncs all that it writes, as in those of the hive.
    """

    def __init__(self, directory: Path, upstream: Path) -> None:
        directory.mkdir()
        self.bare = directory / "bare.git"
        self._clone = directory / "clone"
        self._number = 0
        git(directory, "clone", "--quiet", "--bare", "--shared", str(upstream), str(self.bare))
        git(directory, "clone", "--quiet", "--shared", str(self.bare), str(self._clone))
        self.durable = directory / "durable.git"
        git(directory, "clone", "--quiet", "--bare", "--shared", str(upstream), str(self.durable))
        git(self.durable, "config", "core.fsync", "all")

    def land(self) -> float:
        """Commit a change on a branch (not timed), merge and push it: milliseconds."""
        self._number += 1
        branch = f"work{self._number}"
        git(self._clone, "switch", "--quiet", "--create", branch)
        commit = commit_change(self._clone, self._number)
        git(self._clone, "switch", "--quiet", "main")
        started = time.perf_counter()
        git(self._clone, "merge", "--quiet", "--ff-only", branch)
        git(self._clone, "push", "--quiet", "origin", "main")
        milliseconds = _since(started)
        assert git(self.bare, "rev-parse", "refs/heads/main") == commit
        return milliseconds


def commit_change(clone: Path, number: int, more: dict[str, str] | None = None) -> str:
    """Change one file of a clone; returns the commit."""
    (clone / _CHANGED).write_text(f"This is change {number}.\n")
    quiet = more is not None  # git warns that the path inside of the sandbox is not here.
    git(clone, "commit", "--quiet", "--all", "--message", f"Change {number}", more=more, quiet=quiet)
    return git(clone, "rev-parse", "HEAD", more=more, quiet=quiet)


def _since(started: float) -> float:
    return 1_000 * (time.perf_counter() - started)
