"""The endpoint that tells what all agents do now: the overview asks for it again and again.

Harnesses are asked and samples are taken only while somebody looks, each at most once in a while, however many look.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hive_core.agents import AgentLimits, AgentRegistry, DeploymentManager
from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.agents.harness_view import HarnessViews
from hive_core.api.rules import EndpointRule
from hive_core.errors import HiveError
from hive_core.protocol import (
    ActivityList,
    AgentActivity,
    AgentStatus,
    HarnessView,
    HarnessWork,
    LimitsAnswer,
    memory_bytes,
)

SAMPLE_SECONDS = 10.0
_SAMPLES = 60
_STALE_SECONDS = 60.0
"""Samples before a longer pause are dropped: a graph has no gaps."""
_ASK_SECONDS = 1.5
_PATIENCE_SECONDS = 1.0
"""An answer does not wait longer; the rest is for the next request."""
_AT_ONCE = 8


@dataclass
class _Known:
    """The knowledge of one agent. `work` is what its harness has reported, `view` what it answered when asked."""

    work: HarnessWork | None = None
    view: HarnessView | None = None
    asked_at: float = 0.0
    sampled_at: float = 0.0
    cpu_seconds: float | None = None
    limits: LimitsAnswer | None = None
    memory: deque[int] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    processor: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    task: asyncio.Task[None] | None = None

    def add_sample(self, found: LimitsAnswer, now: float) -> None:
        """Add what the agent uses now; processor time is that since the sample before."""
        if now - self.sampled_at > _STALE_SECONDS:
            self.memory.clear()
            self.processor.clear()
            self.cpu_seconds = None
        usage, passed = found.usage, now - self.sampled_at
        if usage.memory_bytes is not None:
            self.memory.append(usage.memory_bytes)
        if usage.cpu_seconds is not None and self.cpu_seconds is not None and usage.cpu_seconds >= self.cpu_seconds:
            self.processor.append(round((usage.cpu_seconds - self.cpu_seconds) * 100 / passed, 1))
        self.cpu_seconds, self.sampled_at, self.limits = usage.cpu_seconds, now, found


class Activities:
    """The activities of running agents, as far as they are known."""

    def __init__(
        self,
        agents: AgentRegistry,
        deployments: DeploymentManager,
        views: HarnessViews,
        limits: AgentLimits,
        find_spawners: Callable[[], Awaitable[dict[str, str]]],
    ) -> None:
        self._agents = agents
        self._deployments = deployments
        self._views = views
        self._limits = limits
        self._find_spawners = find_spawners
        self._known: dict[str, _Known] = {}
        self._spawned_by: dict[str, str] | None = None
        self._slots = asyncio.Semaphore(_AT_ONCE)
        agents.changed.append(self._forget)

    def note(self, name: str, work: HarnessWork | None) -> None:
        """Keep what an agent's harness has reported."""
        self._known.setdefault(name, _Known()).work = work

    async def read(self) -> ActivityList:
        """Return what is known, after having asked those of whom something new may be known."""
        running = {each.name: each for each in self._agents.statuses() if each.lifecycle == "running"}
        tasks = [task for status in running.values() if (task := self._look(status)) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)
        if self._spawned_by is None:
            self._spawned_by = await self._find_spawners()
        spawned_by = {name: by for name, by in self._spawned_by.items() if self._agents.exists(name)}
        agents = [_activity(name, known) for name, known in self._known.items() if name in running]
        return ActivityList(agents=agents, spawned_by=spawned_by, sample_seconds=SAMPLE_SECONDS)

    def _forget(self, name: str) -> None:
        """Forget an agent that was removed, and who spawned the others: one may be new."""
        self._spawned_by = None
        if not self._agents.exists(name) and (known := self._known.pop(name, None)) and known.task is not None:
            known.task.cancel()

    def _look(self, status: AgentStatus) -> asyncio.Task[None] | None:
        """Begin to ask about an agent, if it is time; returns the task that does, also one that began before."""
        known, now = self._known.setdefault(status.name, _Known()), time.monotonic()
        if known.task is not None and not known.task.done():
            return known.task
        # Only those at work are asked: what answers takes memory in a harness, until it is restarted.
        if status.state != "thinking":
            known.view = None
        view = status.state == "thinking" and now - known.asked_at >= _ASK_SECONDS
        sample = now - known.sampled_at >= SAMPLE_SECONDS
        if not (view or sample):
            return None
        known.task = asyncio.create_task(self._ask(status, known, view=view, sample=sample))
        return known.task

    async def _ask(self, status: AgentStatus, known: _Known, *, view: bool, sample: bool) -> None:
        name = status.name
        # A harness that does not answer is one of which nothing is known, and may have been destroyed by now.
        async with self._slots:
            if view:
                known.asked_at = time.monotonic()
                with suppress(HiveError):
                    self._deployments.hold_view(self._agents.record(name))
                    known.view = await self._views.ask(name, "state", HarnessView)
            if sample:
                with suppress(HiveError):
                    known.add_sample(await self._limits.read(name), time.monotonic())


def agent_activity(activities: Activities) -> list[Endpoint]:
    """Return the endpoint that tells what all agents do."""

    async def listing(call: ApiCall) -> ActivityList:
        found, sees = await activities.read(), call.caller.sees
        return ActivityList(
            agents=[each for each in found.agents if sees(each.agent)],
            # Who asked for an agent is a party of which the caller may know, or it is left out.
            spawned_by={name: by for name, by in found.spawned_by.items() if sees(name) and sees(by)},
            sample_seconds=found.sample_seconds,
        )

    summary, rule = "What running agents do now, and what they use", EndpointRule("viewer", "listing")
    return [Endpoint("GET", "/v1/activity", summary, listing, ActivityList, rule=rule)]


def _activity(name: str, known: _Known) -> AgentActivity:
    found = AgentActivity(agent=name, memory=list(known.memory), processor=list(known.processor))
    if known.limits is not None:
        in_force = known.limits.in_force
        found.memory_max = None if in_force.memory_max is None else memory_bytes(in_force.memory_max)
        found.cpu_quota = in_force.cpu_quota
    if (work := known.work) is not None:
        found.last_turn_at = _time(work.last_turn_at)
        found.model, found.context, found.window = work.model, work.context, work.window
    if (view := known.view) is not None and view.turn is not None and view.turn.state == "running":
        found.activity, found.turn_started_at = view.activity, _time(view.turn.started_at)
        # Its conversation has grown since the turn began.
        found.context, found.window = view.context or found.context, view.window or found.window
    return found


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
