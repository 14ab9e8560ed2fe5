"""Whether a deployment has come up: its harness reports in with the deployment's number, and then that it can work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from hive_core.agents.alerts import one_line
from hive_core.messaging.wakeups import Bells
from hive_core.protocol import HarnessState

_NOT_READY: frozenset[HarnessState] = frozenset({"starting", "offline", "failed"})


@dataclass(frozen=True)
class _Said:
    """What the newest harness has said since it started. The text is the agent's own."""

    deployment: int | None
    state: HarnessState = "starting"
    detail: str = ""


class Health:
    """What harnesses say about themselves, for those who wait for a deployment. In memory only."""

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}
        self._bells = Bells()

    def forget(self, name: str) -> None:
        """What the agent's harness has said so far counts no more: it is gone, or about to be started anew."""
        self._said.pop(name, None)
        self.look_again(name)

    def hello(self, name: str, deployment: int | None) -> None:
        """A harness has started and runs this deployment, if it says so."""
        self._said[name] = _Said(deployment)
        self.look_again(name)

    def report(self, name: str, state: HarnessState, detail: str) -> None:
        """The harness says what it is doing."""
        said = self._said.get(name)
        if said is not None:
            self._said[name] = _Said(said.deployment, state, detail)
            self.look_again(name)

    def look_again(self, name: str) -> None:
        """Something has happened to the agent that may decide whether it comes up."""
        self._bells.ring(name)

    async def wait(self, name: str, deployment: int, seconds: float, hopeless: Callable[[], str]) -> str:
        """Nothing ("") as soon as the harness is ready to work on `deployment`; else why it is not, in words.

        `hopeless` says why it cannot become ready any more, or "". It is asked at every change.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with self._bells.listen(name) as ring:
            while True:
                why = _why_not_ready(self._said.get(name), deployment)
                if not why or (hope := hopeless()):
                    return hope if why else ""
                remaining = deadline - loop.time()
                if remaining <= 0:
                    return f"{why} (waited {seconds:g} seconds)"
                await ring.wait(remaining)


def _why_not_ready(said: _Said | None, deployment: int) -> str:
    if said is None:
        return "its harness did not report in"
    if said.deployment is None:
        return "its harness reported in without saying which deployment it runs"
    if said.deployment != deployment:
        return f"its harness reported in with deployment {said.deployment} instead of {deployment}"
    if said.state == "failed":
        return f"its harness reported that it failed: {one_line(said.detail)}"
    return "its harness reported in, but not that it is ready" if said.state in _NOT_READY else ""
