"""Loops of agents: found, slowed, and nothing else is."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.messaging.fairness.budgets import SendingBudgets
from hive_core.messaging.fairness.loops import BURST, LONGEST_DELAY, QUIET_SECONDS, Loop, LoopDetector
from hive_core.settings import Budgets
from tests.unit.core.messaging.messaging_hive import UNLIMITED

PER_MINUTE = 10


@dataclass
class Simulation:
    """Agents that answer every message after `think` seconds, and the detector that follows them."""

    think: float = 0.01
    budgets: Budgets = UNLIMITED
    detector: LoopDetector = field(default_factory=lambda: LoopDetector(PER_MINUTE))
    now: float = 0.0
    sent_at: list[float] = field(default_factory=list)
    handled_at: list[float] = field(default_factory=list)
    opened: list[Loop] = field(default_factory=list)
    refused: int = 0
    _number: int = 0
    _queue: list[tuple[float, int, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._budgets = SendingBudgets(self.budgets, lambda: self.now)

    def send(self, sender: str, recipient: str, *, at_once: bool = False) -> int | None:
        """Send a message; returns its number, 0 if a loop is too slow for it, and None if budgets refuse it."""
        try:
            self._budgets.check(sender, [recipient])
        except HiveError:
            return None
        if self.detector.delay(sender, [recipient], self.now) > LONGEST_DELAY:
            self.refused += 1
            return 0
        self._budgets.spend(sender, [recipient], 1)
        self._number += 1
        delays, loop = self.detector.sent(self._number, sender, [recipient], self.now)
        self.opened += [loop] if loop is not None else []
        self.sent_at.append(self.now)
        if not at_once:
            due = self.now + delays.get(recipient, 0.0) + self.think
            heapq.heappush(self._queue, (due, self._number, sender, recipient))
        return self._number

    def ask_of_operator(self, agent: str) -> int:
        """A message of the operator's, which the agent now handles."""
        self._number += 1
        self.detector.handed_out(agent, [self._number])
        return self._number

    def handle(self, agent: str, number: int, *recipients: str) -> None:
        """One turn over one message; while a send is refused by the budgets, the turn is tried again."""
        self.detector.handed_out(agent, [number])
        sent = [self.send(agent, recipient) for recipient in recipients]
        if None in sent:
            heapq.heappush(self._queue, (self.now + 1.0, number, "", agent))
            return
        self.detector.acknowledged(agent, [number], self.now)

    def run(self, answers: dict[str, list[str]], seconds: float, most: int = 20_000) -> None:
        """Let every agent answer what it gets with a message to each of those that `answers` names for it."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] < end and len(self.sent_at) < most:
            self.now, number, _, agent = heapq.heappop(self._queue)
            self.handled_at.append(self.now)
            self.handle(agent, number, *answers.get(agent, []))
        self.now = end

    def most_in_a_minute(self, times: list[float], since: float = 0.0) -> int:
        """The number of the times within the fullest minute after `since`."""
        later = sorted(at for at in times if at >= since)
        return max((bisect.bisect_left(later, at + 60) - first for first, at in enumerate(later)), default=0)


def ring(size: int) -> dict[str, list[str]]:
    """Every agent writes to the next one, the last to the first."""
    names = [f"a{number}" for number in range(size)]
    return {name: [names[(place + 1) % size]] for place, name in enumerate(names)}


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_a_loop_of_any_size_is_slowed(size: int) -> None:
    """Agents that answer everything are found after one burst, told of once, and then are as slow as the setting."""
    simulation = Simulation()
    simulation.send("a0", "a1")
    simulation.run(ring(size), 600.0)
    assert [loop.members for loop in simulation.opened] == [frozenset(ring(size))]
    assert simulation.most_in_a_minute(simulation.sent_at) <= BURST + PER_MINUTE + 2
    assert simulation.most_in_a_minute(simulation.sent_at, since=60.0) <= PER_MINUTE + 1
    assert simulation.refused == 0


@pytest.mark.parametrize(
    ("size", "tokens", "answers", "think"), [(2, 4, 1, 0.01), (3, 2, 1, 0.5), (2, 1, 2, 0.5), (4, 1, 3, 0.2)]
)
def test_loops_that_grow_are_slowed_too(size: int, tokens: int, answers: int, think: float) -> None:
    """However many messages go round and however many answers each gets, the budgets and then the pace bound them."""
    simulation = Simulation(think, Budgets())
    for _ in range(tokens):
        simulation.send("a0", "a1")
    everyone = {name: following * answers for name, following in ring(size).items()}
    simulation.run(everyone, 420.0)
    assert len(simulation.opened) == 1
    assert simulation.most_in_a_minute(simulation.sent_at) <= size * 2 * Budgets().messages_per_minute_to_one
    assert simulation.most_in_a_minute(simulation.handled_at, since=180.0) <= PER_MINUTE + 2


def test_a_loop_that_multiplies_is_refused_in_the_end() -> None:
    """Once it is known as a loop, what would wait too long is refused, so that nothing piles up."""
    simulation = Simulation()
    simulation.send("a0", "a1")
    simulation.run(ring(2), 60.0)
    twice = {name: following * 2 for name, following in ring(2).items()}
    simulation.run(twice, 3_600.0)
    assert simulation.refused > 0
    assert simulation.most_in_a_minute(simulation.handled_at, since=60.0) <= PER_MINUTE + 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(("a0", "a1", "a2")), min_size=1, max_size=200), st.floats(0.001, 5.0))
def test_work_of_a_person_is_never_slowed(tasks: list[str], pause: float) -> None:
    """Agents that ask others for each of the operator's messages, and get answers, are no loop at any rate."""
    simulation = Simulation(think=0.0)
    peers = {"a0": ["a1", "a2"], "a1": ["a2", "a0"], "a2": ["a0", "a1"]}
    for agent in tasks:
        task = simulation.ask_of_operator(agent)
        for peer in peers[agent]:
            question = simulation.send(agent, peer, at_once=True)
            assert question is not None
            simulation.detector.handed_out(peer, [question])
            answer = simulation.send(peer, agent, at_once=True)
            simulation.detector.acknowledged(peer, [question], simulation.now)
            assert answer is not None
            simulation.detector.handed_out(agent, [answer])
            simulation.detector.acknowledged(agent, [answer, task], simulation.now)
            task = simulation.ask_of_operator(agent)
        simulation.now += pause
    assert simulation.opened == [] and simulation.detector.loops == []


def test_tasks_handed_out_in_one_turn_are_no_chain() -> None:
    """An agent that hands out a thousand tasks while answers come in, in one turn of a person's, is not slowed."""
    simulation = Simulation(think=0.0)
    simulation.ask_of_operator("a0")
    for _ in range(1_000):
        task = simulation.send("a0", "a1", at_once=True)
        assert task is not None
        simulation.handle("a1", task, "a0")
        simulation.now += 0.01
    assert simulation.opened == []


def test_a_slow_conversation_is_not_slowed() -> None:
    """Agents that answer each other all day, at the rate of the setting, are left alone."""
    simulation = Simulation(think=60 / PER_MINUTE)
    simulation.send("a0", "a1")
    simulation.run(ring(2), 86_400.0)
    assert simulation.opened == []


def test_others_are_not_slowed() -> None:
    """Messages of agents of a loop to somebody else are delivered at once, as are those of others to them."""
    simulation = Simulation()
    simulation.send("a0", "a1")
    simulation.run(ring(2), 60.0)
    assert simulation.detector.loops != []
    for sender, recipient in (("a0", "cleo"), ("cleo", "a0")):
        assert simulation.detector.sent(10**6, sender, [recipient], simulation.now)[0] == {}


def test_a_loop_ends_when_it_is_quiet() -> None:
    """After a while without messages there is no loop, and the next one is told of once it is one again."""
    simulation = Simulation()
    simulation.send("a0", "a1")
    simulation.run(ring(2), 60.0)
    simulation.run({}, QUIET_SECONDS + 20)
    assert simulation.detector.delay("a0", ["a1"], simulation.now) == 0.0
    assert simulation.detector.loops == []
    for told in (1, 2):
        simulation.send("a0", "a1")
        simulation.run(ring(2), 60.0)
        assert len(simulation.opened) == told  # The first comes back too soon to be told of again.
        simulation.run({}, 700.0)


def test_a_chain_goes_on_through_reminders_and_messages_to_oneself() -> None:
    """Agents that put a message to themselves between two answers are a loop all the same."""
    simulation = Simulation()
    numbers = itertools.count(1)
    number = next(numbers)
    simulation.detector.sent(number, "a0", ["a1"], simulation.now)
    opened: dict[str, list[Loop]] = defaultdict(list)
    for step in range(4 * BURST):
        agent, other = ("a1", "a0") if step % 2 == 0 else ("a0", "a1")
        simulation.detector.handed_out(agent, [number])
        if step % 4 < 2:
            simulation.detector.set_reminder(agent, simulation.now)
            simulation.detector.acknowledged(agent, [number], simulation.now)
        own = next(numbers)
        simulation.detector.sent(own, agent, [agent], simulation.now)
        simulation.detector.acknowledged(agent, [number], simulation.now)
        simulation.detector.handed_out(agent, [own])
        number = next(numbers)
        _, loop = simulation.detector.sent(number, agent, [other], simulation.now)
        opened[agent] += [loop] if loop else []
        simulation.detector.acknowledged(agent, [own], simulation.now)
        simulation.now += 0.05
    assert sum(map(len, opened.values())) == 1


def test_a_purged_agent_is_in_no_loop() -> None:
    """The next agent of the name is not slowed."""
    simulation = Simulation()
    simulation.send("a0", "a1")
    simulation.run(ring(2), 60.0)
    simulation.detector.forget("a1")
    assert simulation.detector.loops == []
