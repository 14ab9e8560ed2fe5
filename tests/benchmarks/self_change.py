"""An agent that changes its own configuration, and the operator who decides; each step is timed."""

from __future__ import annotations

import time

from tests.benchmarks.bench_hive import BenchHive
from tests.benchmarks.plain_git import git

_PATIENCE = 60.0


class SelfChange:
    """One agent's changes. Every step that is a request gives the milliseconds until it was answered."""

    def __init__(self, hive: BenchHive, agent: str) -> None:
        self._hive = hive
        self._agent = agent
        self._number = -1
        self._count = 0
        self.applied = hive.state_dir / "applied" / f"{agent}.git"
        self._config = hive.state_dir / "agents" / agent / "config"

    def catch_up(self) -> None:
        """Have the agent's own repository stand on what is deployed."""
        git(self._config, "fetch", "--quiet", str(self.applied), "main")
        git(self._config, "reset", "--quiet", "--hard", "FETCH_HEAD")

    def propose(self) -> float:
        """Commit a change of the prompt (not timed) and propose it; `proposal/N` is there then."""
        self._count += 1
        (self._config / "prompt.md").write_text(f"You are {self._agent}, and this is your change {self._count}.\n")
        git(self._config, "commit", "--quiet", "--all", "--message", f"Change {self._count}")
        commit = git(self._config, "rev-parse", "HEAD")
        started = time.perf_counter()
        request = {"commit": commit, "note": f"Change {self._count}, for the better."}
        answer = self._hive.ask("POST", "/v1/proposals", request, self._agent)
        milliseconds = _since(started)
        self._number = answer["number"]
        self._check("proposal")
        return milliseconds

    def wait(self, *states: str) -> float:
        """Wait until the proposal has left all of `states`, one after another."""
        started = time.perf_counter()
        for state in states:
            path = f"/v1/proposals/{self._agent}/{self._number}?unlike={state}&wait_seconds={_PATIENCE:g}"
            self._hive.ask("GET", path)
        return _since(started)

    def deny(self) -> float:
        """Refuse what is built; `denied/N` is there then, and the agent's repository back where it was."""
        milliseconds = self._decide("deny", "denied")
        git(self._config, "reset", "--quiet", "--hard", "HEAD~")
        return milliseconds

    def approve(self) -> float:
        """Agree to what is built; `approved/N` is there then."""
        return self._decide("approve", "approved")

    def deployed(self) -> float:
        """Wait until what was approved is deployed."""
        milliseconds = self.wait("approved")
        self._check("deployed")
        return milliseconds

    def _decide(self, how: str, state: str) -> float:
        request = {"expect": "built", "note": "As it should be."}
        started = time.perf_counter()
        self._hive.ask("POST", f"/v1/proposals/{self._agent}/{self._number}/{how}", request)
        milliseconds = _since(started)
        self._check(state)
        return milliseconds

    def _check(self, state: str) -> None:
        """See that the tag is in place, as what was timed promises."""
        git(self.applied, "rev-parse", "--verify", "--quiet", f"refs/tags/{state}/{self._number}")


def _since(started: float) -> float:
    return 1_000 * (time.perf_counter() - started)
