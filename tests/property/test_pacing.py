"""Whatever agents send each other, with loops slowed and budgets spent: nothing is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.protocol import LeaseRequest, ReceiveRequest, SendRequest
from hive_core.settings import Budgets
from tests.helpers.memory import MEMORY
from tests.unit.core.messaging.messaging_hive import MessagingHive

AGENTS = ("ada", "bob")
SENDERS = (*AGENTS, "operator")
BUDGETS = Budgets(messages_per_minute_to_one=40, unacknowledged_to_one=30, loop_messages_per_minute=10)
TURN = 100
"""Milliseconds of a turn."""

actions = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), st.sampled_from(AGENTS), st.integers(0, 2)),
        st.tuples(st.just("turn"), st.sampled_from(AGENTS), st.just(1)),
        st.tuples(st.just("send"), st.sampled_from(SENDERS), st.sampled_from((*AGENTS, "*"))),
        st.tuples(st.just("dies"), st.sampled_from(AGENTS), st.just(0)),
        st.tuples(st.just("releases"), st.sampled_from(AGENTS), st.just(0)),
        st.tuples(st.just("waits"), st.just(""), st.sampled_from((1, 7, 130))),
        st.tuples(st.just("restarts"), st.just(""), st.just(0)),
    ),
    min_size=20,
    max_size=120,
)


class PacedHive:
    """Agents whose turns answer each other, and what was accepted and handed out."""

    def __init__(self, path: Path) -> None:
        self.hive = MessagingHive(path)
        self.accepted: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        self.first: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        self.done: defaultdict[str, set[int]] = defaultdict(set)
        self._instances = dict.fromkeys(AGENTS, "")
        self._lives = 0

    async def open(self) -> None:
        await self.hive.open()
        await self.restart()
        for name in AGENTS:
            await self.come_alive(name)

    async def restart(self) -> None:
        """A new daemon, which knows what the database holds."""
        self.hive.inbox_limit(10_000, BUDGETS)
        await self.hive.broker.open()

    async def come_alive(self, name: str) -> None:
        """A new harness of an agent."""
        self._lives += 1
        self._instances[name] = f"instance-{self._lives}"
        await self.hive.broker.hello(name, self._instances[name])

    async def send(self, sender: str, to: str) -> None:
        """Send, and note what was accepted; refusals are those of budgets."""
        try:
            answer = await self.hive.broker.send(sender, SendRequest(to=to, body="x"))
        except HiveError as error:
            assert error.code in ("sending_too_fast", "too_many_waiting")
            return
        for name in answer.recipients:
            self.accepted[sender, name].append(answer.id)

    async def receive(self, name: str, most: int) -> list[int]:
        """Return the messages that are handed out now."""
        request = ReceiveRequest(instance=self._instances[name], max=most, holding=[])
        deliveries = (await self.hive.broker.receive(name, request)).deliveries
        for delivery in deliveries:
            seen = self.first[delivery.sender, name]
            assert delivery.id not in self.done[name], "handed out after it was acknowledged"
            if delivery.id not in seen:
                seen.append(delivery.id)
                assert not delivery.redelivered
        return [delivery.id for delivery in deliveries]

    async def turn(self, name: str, answers: int) -> None:
        """Handle what is handed out, and answer the other agent."""
        ids = await self.receive(name, 100)
        other = AGENTS[1 - AGENTS.index(name)]
        for _ in range(answers if ids else 0):
            await self.send(name, other)
        await self.hive.broker.acknowledge(name, self._instances[name], ids)
        self.done[name].update(ids)
        self.hive.now += TURN

    async def act(self, kind: str, name: str, value: int | str) -> None:
        match kind:
            case "turn":
                await self.turn(name, int(value))
            case "send" if name != value:
                await self.send(name, str(value))
            case "dies":
                await self.receive(name, 3)
                await self.come_alive(name)
            case "releases":
                await self.hive.broker.release(name, LeaseRequest(instance=self._instances[name]))
            case "waits":
                self.hive.now += int(value) * 1_000
            case "restarts":
                await self.restart()

    async def drain(self) -> None:
        """Let everything be handled that was accepted."""
        for _ in range(100):
            self.hive.now += 30_000
            for name in AGENTS:
                await self.turn(name, 0)
            if not any(map(self.hive.broker.unacknowledged, AGENTS)):
                return
        raise AssertionError("messages were not handed out")


@settings(max_examples=30, deadline=None)
@given(actions)
def test_pacing_keeps_what_is_promised(happened: list[tuple[str, str, int | str]]) -> None:
    """Every accepted message is handed out, first in the order of its sender, and is acknowledged once."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        patch.setattr("hive_core.messaging.fairness.loops.BURST", 4)
        asyncio.run(_check(Path(directory), happened))


async def _check(path: Path, happened: list[tuple[str, str, int | str]]) -> None:
    paced = PacedHive(path)
    await paced.open()
    try:
        await paced.send("ada", "bob")
        for kind, name, value in happened:
            await paced.act(kind, name, value)
        await paced.drain()
    finally:
        await paced.hive.close()
    notices = {pair: ids for pair, ids in paced.first.items() if pair[0] != "system"}
    assert notices == {pair: ids for pair, ids in paced.accepted.items() if ids}
