"""The steps of `doctor --live`: a throwaway agent is created, built, started, reached, tried for its seal, and removed.

It tests assumptions of the static checks, through the daemon's own API. The agent is removed however a run ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hive_core.cli.client import Client, agent_path, proposal_path
from hive_core.cli.commands.agents.lifecycle import STOP_SECONDS
from hive_core.cli.errors import Failure, StepFailed
from hive_core.cli.live import throwaway_agent
from hive_core.cli.output import describe_crash
from hive_core.layout import DEFAULT_STATE_DIR, Layout, closure_path

if TYPE_CHECKING:
    from hive_core.cli.live.seal_check import Seal

_POLL_SECONDS = 0.1
_LONGEST_POLL_SECONDS = 60.0
_LOG_LINES = 15
_READY = frozenset({"idle", "thinking"})
_CRASHES = 3
_HINT = "see the lines below, and the daemon's log"


@dataclass(frozen=True)
class CheckStep:
    """One step that was tried. `seconds` is the time that it took; `lines` are the end of the log of a failed step."""

    step: str
    severity: Literal["ok", "error"]
    seconds: float
    what: str
    remedy: str = ""
    lines: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return the step as JSON data."""
        return asdict(self) | {"seconds": round(self.seconds, 3), "lines": list(self.lines)}


class LiveCheck:
    """One run. `on_step` gets each step when it ends; `timeout` is the time limit of a step, in seconds.

    `try_seal` has an agent, as the daemon describes it, try what it reaches.
    """

    def __init__(
        self,
        client: Client,
        on_step: Callable[[CheckStep], None],
        *,
        timeout: float,
        sealed: bool,
        try_seal: Callable[[Mapping[str, object]], Seal],
    ) -> None:
        self._try_seal = try_seal
        self._client = client
        self._on_step = on_step
        self._timeout = timeout
        self._sealed = sealed
        self._spawn: SpawnWatch | None = None
        self._closures = DEFAULT_STATE_DIR
        self.steps: list[CheckStep] = []
        self.name = ""

    @property
    def well(self) -> bool:
        """True if every step succeeded."""
        return all(step.severity == "ok" for step in self.steps)

    @property
    def daemon_answers(self) -> bool:
        """True if a run has found a daemon."""
        return any(step.step == "daemon" and step.severity == "ok" for step in self.steps)

    def run(self) -> None:
        """Try every step, up to the first that fails, and remove the agent."""
        steps = (
            ("daemon", self._ask_daemon),
            ("left-over", self._remove_left_over),
            ("build", self._build),
            ("start", self._start),
            ("ready", self._wait_until_ready),
            ("answer", self._ask_agent),
            ("seal", self._check_seal),
        )
        try:
            all(self._try(name, act) for name, act in steps)
        finally:
            # Also after Ctrl-C; after a second Ctrl-C the next run removes the agent.
            if self._spawn is not None:
                self._try("remove", self._remove)

    def _try(self, name: str, act: Callable[[], str]) -> bool:
        """Run a step, which returns a text about its success, empty to show nothing. Return False if it fails."""
        begun = time.monotonic()
        try:
            what = act()
        except Failure as failure:
            taken = time.monotonic() - begun
            remedy = failure.hint or "see the daemon's log"
            self._end(CheckStep(name, "error", taken, failure.message, remedy, self._log_of(name)))
            return False
        if what:
            self._end(CheckStep(name, "ok", time.monotonic() - begun, what))
        return True

    def _end(self, step: CheckStep) -> None:
        self.steps.append(step)
        self._on_step(step)

    # --- steps ----------------------------------------------------------------------------------------------

    def _ask_daemon(self) -> str:
        status = self._client.get("/v1/status")
        self._closures = Layout(Path(str(status.get("state_dir"))), self._client.path.parent).closures
        return f"the daemon answers: version {status.get('version')}, runtime {status.get('runtime')}"

    def _remove_left_over(self) -> str:
        names = throwaway_agent.agent_names(self._client)
        removed = []
        for name in throwaway_agent.left_over(self._client, names):
            throwaway_agent.purge(self._client, name, STOP_SECONDS)
            removed.append(name)
        self.name = throwaway_agent.free_name(names - set(removed))
        return f"removed agents of interrupted runs: {', '.join(removed)}" if removed else ""

    def _build(self) -> str:
        request = throwaway_agent.spawn_request(self.name, sealed=self._sealed)
        self._spawn = SpawnWatch(self._client, self.name, request)
        self._spawn.until_built(self._timeout)
        self._check_closure(self._spawn.closure)
        return f"{self.name} is built: {self._spawn.closure}"

    def _start(self) -> str:
        assert self._spawn is not None
        self._spawn.until_deployed(self._timeout)
        return f"{self.name} is deployed and started"

    def _wait_until_ready(self) -> str:
        end = time.monotonic() + self._timeout
        while True:
            status = self._client.get(agent_path(self.name))
            if status.get("state") in _READY:
                return f"the harness of {self.name} reports that it is ready"
            crash = describe_crash(status)
            detail = (
                f"it has ended {crash}" if crash else status.get("detail") or status.get("exit_cause")
            ) or "no reason given"
            if "failed" in (status.get("state"), status.get("lifecycle")):
                raise StepFailed(f"{self.name} failed: {detail}", _HINT)
            if int(status.get("crashes") or 0) >= _CRASHES:
                raise StepFailed(f"{self.name} keeps crashing: {detail}", _HINT)
            if time.monotonic() >= end:
                why = f"the harness of {self.name} is {status.get('state')} after {self._timeout:g} s"
                raise StepFailed(why, _HINT)
            time.sleep(_POLL_SECONDS)

    def _ask_agent(self) -> str:
        sent = self._client.post("/v1/messages", {"to": self.name, "body": throwaway_agent.QUESTION}).get("id")
        end = time.monotonic() + self._timeout
        while True:
            poll = min(max(0.0, end - time.monotonic()), _LONGEST_POLL_SECONDS)
            answer = self._client.get(f"/v1/messages/{sent}/reply", {"wait_seconds": f"{poll:.3f}"}, wait=poll)
            if isinstance(reply := answer.get("reply"), dict):
                break
            if answer.get("handled"):
                raise StepFailed(f"{self.name} has handled a message without an answer", _HINT)
            if time.monotonic() >= end:
                raise StepFailed(f"{self.name} has not answered after {self._timeout:g} s", _HINT)
        self._client.post("/v1/messages/read", {"ids": [reply.get("id")]})
        if reply.get("body") != throwaway_agent.ANSWER:
            why = f"{self.name} has answered something else: {str(reply.get('body'))[:200]!r}"
            raise StepFailed(why, _HINT)
        return f"{self.name} has answered a message"

    def _check_seal(self) -> str:
        seal = self._try_seal(self._client.get(agent_path(self.name)))
        if seal.severity == "error":
            raise StepFailed(seal.describe(), seal.remedy)
        return seal.describe()

    def _remove(self) -> str:
        assert self._spawn is not None
        self._spawn.until_over()
        if self.name not in throwaway_agent.agent_names(self._client):
            return ""
        throwaway_agent.purge(self._client, self.name, STOP_SECONDS)
        if self.name in throwaway_agent.agent_names(self._client):
            raise StepFailed(f"{self.name} was destroyed but still exists", "see the daemon's log")
        return f"{self.name} is removed with all of its files"

    # --------------------------------------------------------------------------------------------------------

    def _check_closure(self, closure: str) -> None:
        """Raise Failure unless the closure exists, as far as this user can see it."""
        try:
            closure_path(self._closures, closure).lstat()
        except PermissionError:
            pass
        except OSError:
            why = f"{self.name} is built, but its closure does not exist: {closure or 'no path given'}"
            raise StepFailed(why, "see the daemon's log") from None

    def _log_of(self, step: str) -> tuple[str, ...]:
        """Fetch the end of the log of a failed step before it is removed with the agent."""
        try:
            if step == "build" and self._spawn is not None and self._spawn.number is not None:
                path = proposal_path(self.name, self._spawn.number, "log")
            elif step in ("start", "ready", "answer"):
                path = agent_path(self.name, "logs")
            else:
                return ()
            return tuple(str(line) for line in self._client.get(path, {"lines": _LOG_LINES}).get("lines", []))
        except Failure:
            return ()


_BUILD_SECONDS = 86_400.0
"""Longest time that settings can give a build."""
_BUILT = frozenset({"built", "approved", "deployed"})


class SpawnWatch:
    """A spawn request in a thread, and the state of its proposal.

    The daemon answers a spawn only when the agent exists, so a thread waits for the answer while this object polls the
    gate. `number` is the number of the proposal and `closure` the path of its build, when they are known.
    """

    def __init__(self, client: Client, name: str, request: Mapping[str, object]) -> None:
        self.number: int | None = None
        self.closure = ""
        self._client = client
        self._name = name
        self._failure: Failure | None = None
        self._late = False
        # Proposals of an earlier, failed spawn of the same name still exist.
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
        """Wait for the answer to the spawn. Raises Failure if a step before exceeded its time limit."""
        if self._late and self._thread.is_alive():
            why = f"the daemon still builds or starts {self._name}, which cannot be removed before that ends"
            raise StepFailed(why, "run hive-c0re doctor --live again later: it removes agents of earlier runs")
        self._thread.join()

    def _until(self, states: Collection[str], timeout: float) -> None:
        end = time.monotonic() + timeout
        while True:
            answered = not self._thread.is_alive()
            if answered and self._failure is not None:
                # The proposal's number is needed to find its log.
                self._poll()
                raise self._failure
            state, outcome = self._poll()
            if state in states:
                return
            if answered:
                why = f"{self._name} is {state or 'unknown to the gate'}: {outcome or 'no reason given'}"
                raise StepFailed(why, "see the daemon's log")
            if time.monotonic() >= end:
                self._late = True
                why = f"the spawn proposal of {self._name} is {state or 'missing'} after {timeout:g} s"
                raise StepFailed(why, "give it more time with --timeout")
            time.sleep(_POLL_SECONDS)

    def _poll(self) -> tuple[str, str]:
        """Ask for the state of the proposal and its outcome; empty while it does not exist."""
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
