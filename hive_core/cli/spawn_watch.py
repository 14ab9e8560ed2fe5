"""A spawn that is watched while the daemon is at work on it, so that each of its stages can be timed."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping

from hive_core.cli.client import Client
from hive_core.cli.errors import Failure, StepFailed

_POLL_SECONDS = 0.1
_BUILD_SECONDS = 86_400.0
"""Longest time that the daemon's settings give a build."""
_BUILT = frozenset({"built", "approved", "deployed"})


class SpawnWatch:
    """The daemon answers a spawn only when the agent is made: a thread waits for that, and this asks the gate how far
    it is. `number` is that of the proposal, and `closure` the path that it was built to, once they are known.
    """

    def __init__(self, client: Client, name: str, request: Mapping[str, object]) -> None:
        self.number: int | None = None
        self.closure = ""
        self._client = client
        self._name = name
        self._failure: Failure | None = None
        self._late = False
        # A spawn of that name that failed earlier has left its proposals.
        self._last = self._newest()[0]
        self._thread = threading.Thread(target=self._post, args=[request], daemon=True)
        self._thread.start()

    def until_built(self, timeout: float) -> None:
        """Wait for the end of the build. Raises Failure if it fails or takes longer than `timeout` seconds."""
        self._until(_BUILT, timeout)

    def until_deployed(self, timeout: float) -> None:
        """Wait until the agent is deployed, and the daemon has answered. Raises Failure as above."""
        self._until({"deployed"}, timeout)
        self._thread.join(timeout)
        if self._failure is not None:
            raise self._failure

    def until_over(self) -> None:
        """Wait until the daemon has made the agent or has given up. Raises Failure where that took too long before."""
        if self._late and self._thread.is_alive():
            why = f"the daemon is still at work on {self._name}, which cannot be removed before that ends"
            raise StepFailed(why, "run hive-c0re doctor --live later: it removes what is left over")
        self._thread.join()

    def _until(self, states: Collection[str], timeout: float) -> None:
        end = time.monotonic() + timeout
        while True:
            answered = not self._thread.is_alive()
            if answered and self._failure is not None:
                # The proposal's number is needed to find its log.
                self._look()
                raise self._failure
            state, outcome = self._look()
            if state in states:
                return
            if answered:
                why = f"{self._name} is {state or 'not known to the gate'}: {outcome or 'no reason given'}"
                raise StepFailed(why, "see the daemon's log")
            if time.monotonic() >= end:
                self._late = True
                why = f"the proposal to make {self._name} is {state or 'not there'} after {timeout:g} s"
                raise StepFailed(why, "give it more time with --timeout")
            time.sleep(_POLL_SECONDS)

    def _look(self) -> tuple[str, str]:
        """Ask for the state of the proposal and its outcome; empty while it is not there."""
        number, state, closure, outcome = self._newest()
        if number <= self._last:
            return "", ""
        self.number, self.closure = number, closure
        return state, outcome

    def _newest(self) -> tuple[int, str, str, str]:
        query = {"agent": self._name, "state": "all", "limit": 1}
        found = self._client.get("/v1/proposals", query).get("proposals", [])
        if not found:
            return -1, "", "", ""
        one = found[0]
        return int(one["number"]), str(one.get("state")), str(one.get("closure") or ""), str(one.get("outcome") or "")

    def _post(self, request: Mapping[str, object]) -> None:
        try:
            self._client.post("/v1/agents", request, wait=_BUILD_SECONDS)
        except Failure as failure:
            self._failure = failure
