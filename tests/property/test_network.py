"""Rules of the network against a model: whatever happens in whatever order, each holds to its end, and no longer."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from hive_core.errors import HiveError
from hive_core.protocol.names import EVERYONE
from tests.helpers.memory import MEMORY
from tests.unit.core.outside.network.network_hive import HOUR, OPERATOR, NetworkHive

T = TypeVar("T")
AGENTS = ("ada", "bob")
_RUNS = max(10, settings().max_examples // 5)

agents = st.sampled_from(AGENTS)
whom = st.sampled_from((*AGENTS, EVERYONE))
hosts = st.sampled_from(("one.example", "two.example", "npm"))
hours = st.sampled_from((None, 1, 2, 5))
times = st.sampled_from((1, HOUR - 1, HOUR, 3 * HOUR))


@dataclass
class Asked:
    """A request as the model knows it."""

    agent: str
    host: str
    hours: int
    state: str = "open"


@dataclass
class Model:
    """The rules by agent and host ("" opens everything), each with what it does and when it ends; the requests."""

    rules: dict[tuple[str, str], tuple[str, int | None]] = field(default_factory=dict)
    requests: dict[int, Asked] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    """How many decisions each agent has heard of since it exists."""


class NetworkMachine(RuleBasedStateMachine):
    """Any sequence of rules, requests, decisions, time, restarts, and agents that are destroyed and made anew."""

    @initialize()
    def open_hive(self) -> None:
        self.runner = asyncio.Runner()
        self.path = Path(tempfile.mkdtemp(prefix="hive-", dir=MEMORY))
        self.model = Model()
        self.hive = NetworkHive(self.path)
        self.run(self.hive.open())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.hive.close())
            self.runner.close()
            shutil.rmtree(self.path)

    def in_force(self, agent: str, effect: str) -> list[str]:
        """The hosts that rules of the model are about now, for an agent and for all."""
        return [
            host
            for (who, host), (what, ends_at) in self.model.rules.items()
            if who in (agent, EVERYONE) and what == effect and (ends_at is None or self.hive.now < ends_at)
        ]

    def end_of(self, lasts: int | None) -> int | None:
        return None if lasts is None else self.hive.now + lasts * HOUR

    def is_denied(self, agent: str, host: str, *, replaces: bool = True) -> bool:
        """Whether a rule denies the host, other than the one that is replaced."""
        wanted = {EVERYONE} if agent == EVERYONE else {agent, EVERYONE}
        return any(
            not (replaces and (who, other) == (agent, host)) and who in wanted and other == host and what == "deny"
            and (ends_at is None or self.hive.now < ends_at)
            for (who, other), (what, ends_at) in self.model.rules.items()
        )  # fmt: skip

    @rule(agent=whom, effect=st.sampled_from(("allow", "deny")), host=hosts, lasts=hours)
    def make(self, agent: str, effect: str, host: str, lasts: int | None) -> None:
        refused = effect == "allow" and self.is_denied(agent, host)
        try:
            self.run(self.hive.make(effect, host, agent=agent, hours=lasts))
        except HiveError as error:
            assert error.code == "host_denied" and refused
            return
        assert not refused
        self.model.rules[agent, host] = (effect, self.end_of(lasts))

    @rule(agent=whom, lasts=st.sampled_from((1, 2)))
    def open_everything(self, agent: str, lasts: int) -> None:
        self.run(self.hive.make("open", agent=agent, hours=lasts))
        self.model.rules[agent, ""] = ("open", self.end_of(lasts))

    @rule(agent=whom)
    def close_everything(self, agent: str) -> None:
        self.run(self.hive.network.close_all(agent, OPERATOR))
        self.model.rules.pop((agent, ""), None)

    @rule(agent=whom, host=hosts)
    def take_away(self, agent: str, host: str) -> None:
        found = self.model.rules.pop((agent, host), None)
        holds = found is not None and (found[1] is None or self.hive.now < found[1])
        try:
            self.run(self.hive.take_away(host, agent=agent))
        except HiveError as error:
            assert error.code == "unknown_rule" and not holds
            return
        assert holds

    @rule(agent=agents, host=hosts, lasts=st.sampled_from((1, 2)))
    def ask(self, agent: str, host: str, lasts: int) -> None:
        allowed, denied = self.in_force(agent, "allow"), self.in_force(agent, "deny")
        try:
            asked = self.run(self.hive.ask(host, agent=agent, hours=lasts))
        except HiveError as error:
            assert error.code == "host_allowed"
            assert host in allowed and host not in denied
            return
        assert host not in allowed or host in denied
        earlier = self.model.requests.setdefault(asked.id, Asked(agent, host, lasts))
        assert (earlier.agent, earlier.host, earlier.state) == (agent, host, "open")

    @rule(place=st.integers(1, 8), approves=st.booleans())
    def decide(self, place: int, approves: bool) -> None:
        found = self.model.requests.get(place)
        is_open = found is not None and found.state == "open"
        refused = approves and found is not None and is_open and self.is_denied(found.agent, found.host, replaces=False)
        try:
            self.run(self.hive.approve(place) if approves else self.hive.deny(place))
        except HiveError as error:
            assert error.code in ("unknown_request", "request_decided", "host_denied")
            assert (error.code == "host_denied") == refused
            assert refused or not is_open
            return
        assert found is not None and is_open and not refused
        found.state = "approved" if approves else "denied"
        self.model.heard[found.agent] = self.model.heard.get(found.agent, 0) + 1
        if approves:
            self.model.rules[found.agent, found.host] = ("allow", self.end_of(found.hours))

    @rule(milliseconds=times)
    def time_passes(self, milliseconds: int) -> None:
        self.hive.now += milliseconds

    @rule()
    def time_brings(self) -> None:
        self.run(self.hive.network.end_due())

    @rule()
    def restart(self) -> None:
        self.run(self.hive.restart())

    @rule(agent=agents)
    def destroy_and_make_anew(self, agent: str) -> None:
        self.run(self.hive.remove(agent))
        self.run(self.hive.add(agent))
        self.model.rules = {key: what for key, what in self.model.rules.items() if key[0] != agent}
        self.model.requests = {number: asked for number, asked in self.model.requests.items() if asked.agent != agent}

    @invariant()
    def policies_are_those_of_the_model(self) -> None:
        if not hasattr(self, "hive"):
            return
        for agent in AGENTS:
            policy = self.hive.network.policy(agent)
            assert set(policy.allow) == set(self.in_force(agent, "allow"))
            assert set(policy.deny) == set(self.in_force(agent, "deny"))
            assert policy.open == bool(self.in_force(agent, "open"))

    @invariant()
    def each_decision_is_told_once(self) -> None:
        if hasattr(self, "hive"):
            for agent in AGENTS:
                assert len(self.run(self.hive.told(agent))) == self.model.heard.get(agent, 0)


def test_rules_hold_to_their_ends() -> None:
    """After any sequence, the policies are those of the model, and each decision was told once."""
    run_state_machine_as_test(NetworkMachine, settings=settings(max_examples=_RUNS, stateful_step_count=20))
