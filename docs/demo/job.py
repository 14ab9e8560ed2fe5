"""The job that the demo shows: it is asked for, followed through the hive's events, and judged."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import view
from daemon import Daemon
from failure import DemoFailed

from hive_core.cli.errors import Failure
from hive_core.cli.events import follow
from hive_core.protocol.names import MANAGER, OPERATOR

AGENTS = (MANAGER, "ada", "bob")
_TICK_SECONDS = 0.2
_FAILURES = 3
"""A turn that failed is tried again, so that one failure (an overloaded API) is not the end."""

EventData = Mapping[str, Any]


class Job:
    """The state of a job, from the events since message `asked` to the agent `does`. Pure.

    With a repository the job is done only when work for it has landed.
    """

    def __init__(self, asked: int, does: str, repo: str = "") -> None:
        self.asked = asked
        self.does = does
        self.answered = False
        self._wants_work = bool(repo)
        self._submitted = self._landed = False
        self._states = dict.fromkeys(AGENTS, "idle")
        self._failures: Counter[str] = Counter()

    @property
    def done(self) -> bool:
        """The operator has the answer, the work has landed, and everyone has finished."""
        return self.answered and self._landed >= self._wants_work and set(self._states.values()) == {"idle"}

    def take(self, event: EventData) -> None:
        """Learn from an event; raises DemoFailed (without a log) if the job will not be done."""
        kind, data = event["kind"], event["data"]
        if kind == "message.sent":
            self._sent(data)
        elif kind == "work.changed":
            self._submitted = True
            self._landed = self._landed or data["state"] == "deployed"
        elif kind == "agent.state" and data["agent"] in self._states:
            self._state(data["agent"], data["state"], data.get("detail", ""))
        elif kind == "agent.lifecycle" and data["lifecycle"] == "failed":
            raise AgentFailed(data["agent"], f"does not run: {data.get('cause')}")

    def _sent(self, data: EventData) -> None:
        if data["to"] == OPERATOR and data["reply_to"] == self.asked:
            self.answered = True

    def _state(self, name: str, state: str, detail: str) -> None:
        self._states[name] = state
        if self._wants_work and self.answered and not self._submitted and name == self.does and state == "idle":
            raise AgentFailed(name, "has ended its turn without submitting work")
        if state == "needs_login":
            raise AgentFailed(name, f"has no valid login: {detail}")
        if state == "paused":  # The key of the relay is refused, or a budget is used up.
            raise AgentFailed(name, f"does not go on: {detail}")
        if state == "budget":
            raise AgentFailed(name, f"has no budget for a call: {detail}")
        if state == "failed":
            self._failures[name] += 1
            if self._failures[name] == _FAILURES:
                raise AgentFailed(name, f"failed {_FAILURES} times: {detail}")


class AgentFailed(DemoFailed):
    """An agent will not do its part."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}")
        self.name = name


class Flow:
    """The hive's events since its start, read in the background so that the reader can look at the clock."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._events: queue.SimpleQueue[EventData] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for event in follow(self._daemon.client, 0, lambda _: None):
                self._events.put(event)
        except Failure:
            return  # The daemon is gone, which `__iter__` tells.

    def __iter__(self) -> Iterator[EventData | None]:
        """Events as they come, for ever; None when none came for a moment. Fails if the daemon ends."""
        while True:
            try:
                yield self._events.get(timeout=_TICK_SECONDS)
            except queue.Empty:
                self._daemon.check()
                yield None


def ask(daemon: Daemon, agent: str, wish: str) -> int:
    """Ask an agent for something, as the operator; the message's number."""
    return int(daemon.client.post("/v1/messages", {"to": agent, "body": wish})["id"])


def watch(daemon: Daemon, flow: Flow, job: Job, limit: float, *, shown: bool = False) -> None:
    """Show the job until it is done, from its message on or all that comes. Fails after `limit` seconds."""
    end = time.monotonic() + limit
    try:
        for event in flow:
            if event is not None:
                shown = shown or (event["kind"] == "message.sent" and event["data"]["id"] == job.asked)
                if shown:
                    view.event(event)
                job.take(event)
            if job.done:
                return
            if time.monotonic() > end:
                raise AgentFailed(job.does, f"did not bring the result within {limit:g} s")
    except AgentFailed as failed:
        raise DemoFailed(str(failed), daemon.agent_log(failed.name)) from None
