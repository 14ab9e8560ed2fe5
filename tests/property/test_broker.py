"""The broker against a model that is simple enough to be seen to be right."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hive_core.errors import HiveError
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import Broker, Directory, Member
from hive_core.protocol import InboxQuery, LeaseRequest, ReceiveRequest, SendRequest
from hive_core.settings import Budgets
from tests.helpers.memory import MEMORY

T = TypeVar("T")
AGENTS = ("hm1nd", "ada", "bob")
LEASE_SECONDS = 10.0
INBOX_LIMIT = 6
BUDGETS = Budgets(
    messages_per_minute=9,
    messages_per_minute_to_one=4,
    unacknowledged=8,
    unacknowledged_to_one=3,
    loop_messages_per_minute=10**12,
)
NEWER = "SELECT id, sender, recipient, body FROM messages WHERE id > ? ORDER BY id"
STORE_AGENT = """INSERT INTO agents (name, kind, desired, config, prompt, deployment, created_at)
VALUES (?, ?, 'running', '{}', '', 0, 0) ON CONFLICT DO NOTHING"""
ALLOWED = frozenset({"hm1nd", "operator"})
"""What bob may write to; the others may write to everybody."""

agents = st.sampled_from(AGENTS)
recipients = st.sampled_from((*AGENTS, "operator", "*", "nobody"))
senders = st.sampled_from((*AGENTS, "operator"))
keys = st.sampled_from((None, None, "k1", "k2"))
bodies = st.sampled_from(("\n.", "hello", "\x00\ud7ff\U0010ffff"))


@dataclass
class ModelDelivery:
    """One message on its way to one recipient."""

    message: int
    sender: str = ""
    to: str = ""
    attempts: int = 0
    place: int | None = None
    holder: str | None = None
    until: int = 0
    done: bool = False


@dataclass
class Model:
    """What the hive promises, without a database."""

    inboxes: dict[str, list[ModelDelivery]] = field(default_factory=lambda: {n: [] for n in (*AGENTS, "operator")})
    stored: dict[tuple[str, str], tuple[int, str, str]] = field(default_factory=dict)
    bodies: dict[int, str] = field(default_factory=dict)
    edited: set[int] = field(default_factory=set)
    instances: dict[str, str] = field(default_factory=dict)
    spent: dict[tuple[str, ...], int] = field(default_factory=dict)
    """The spent part of the budgets of senders and pairs, in messages times milliseconds of a minute."""
    now: int = 1_000_000

    def waiting(self, name: str) -> list[ModelDelivery]:
        found = [delivery for delivery in self.inboxes[name] if not delivery.done]
        return sorted(found, key=lambda delivery: (delivery.place or delivery.message, delivery.message))

    def pass_time(self, seconds: int) -> None:
        """Budgets are regained evenly."""
        self.now += seconds * 1_000
        for key, spent in self.spent.items():
            self.spent[key] = max(0, spent - seconds * 1_000 * self.per_minute(key))

    def per_minute(self, key: tuple[str, ...]) -> int:
        return BUDGETS.messages_per_minute if len(key) == 1 else BUDGETS.messages_per_minute_to_one

    def spend(self, sender: str, names: list[str]) -> None:
        for key in [(sender,)] * len(names) + [(sender, name) for name in names] if sender in AGENTS else []:
            self.spent[key] = self.spent.get(key, 0) + 60_000

    def is_spent(self, sender: str, names: list[str]) -> bool:
        keys = [(sender,), *((sender, name) for name in names)]
        return any(self.spent.get(key, 0) > (self.per_minute(key) - 1) * 60_000 for key in keys)

    def from_sender(self, sender: str, *names: str) -> int:
        return sum(delivery.sender == sender for name in names or self.inboxes for delivery in self.waiting(name))

    def resolve(self, sender: str, to: str) -> list[str] | str:
        if sender == "bob" and to not in ALLOWED:
            return "recipient_not_allowed"
        if to == "*":
            return [name for name in sorted(AGENTS) if name != sender]
        return [to] if to in self.inboxes else "unknown_recipient"

    def free(self, name: str, holding: list[int] | None) -> list[ModelDelivery]:
        unseen = self.instances[name] if holding is not None else object()
        return [
            delivery
            for delivery in self.waiting(name)
            if delivery.holder is None
            or delivery.until <= self.now
            or (delivery.holder == unseen and delivery.message not in (holding or []))
        ]

    def held(self, name: str) -> list[ModelDelivery]:
        return [delivery for delivery in self.waiting(name) if delivery.holder == self.instances.get(name, object())]


class BrokerMachine(RuleBasedStateMachine):
    """Any sequence of requests, lease times running out, and restarts of the daemon."""

    @initialize()
    def open_hive(self) -> None:
        self.runner = asyncio.Runner()
        self.directory_path = Path(tempfile.mkdtemp(prefix="hive-", dir=MEMORY))
        self.model = Model()
        self.count = 0
        self.run(self.open())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    async def open(self) -> None:
        self.database = await Database.open(self.directory_path / "hive.sqlite")
        self.writing = asyncio.create_task(self.database.run())
        directory = Directory()
        for name in AGENTS:
            allowed = ALLOWED if name == "bob" else None
            kind = "manager" if name == "hm1nd" else "agent"
            directory.put(Member(name, kind, allowed, self.model.instances.get(name)))  # type: ignore[arg-type]
            await self.database.write(
                lambda db, row=(name, kind): db.execute(STORE_AGENT, row).fetchone()  # type: ignore[misc]
            )
        self.broker = Broker(
            self.database,
            directory,
            EventHub(),
            inbox_limit=INBOX_LIMIT,
            budgets=BUDGETS,
            lease_seconds=LEASE_SECONDS,
            clock=lambda: self.model.now,
            steady=lambda: self.model.now,
            ticks=lambda: self.model.now / 1_000,
        )
        await self.broker.open()

    async def close(self) -> None:
        self.database.finish()
        await self.writing
        await self.database.close()

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.close())
            self.runner.close()
            shutil.rmtree(self.directory_path)

    @rule(sender=senders, to=recipients, body=bodies, key=keys)
    def send(self, sender: str, to: str, body: str, key: str | None) -> None:
        request = SendRequest(to=to, body=body, idempotency_key=key)
        earlier = self.model.stored.get((sender, key)) if key else None
        try:
            answer = self.run(self.broker.send(sender, request))
        except HiveError as error:
            assert error.code == self.expected_refusal(sender, to, body, earlier)
            return
        if earlier:
            assert answer.duplicate and answer.id == earlier[0]
            return
        names = self.model.resolve(sender, to)
        assert (answer.recipients, answer.duplicate) == (names, False)
        assert answer.id > max(self.model.bodies, default=0)
        self.model.bodies[answer.id] = body
        self.model.spend(sender, answer.recipients)
        for name in answer.recipients:
            self.model.inboxes[name].append(ModelDelivery(answer.id, sender, to))
        if key:
            self.model.stored[sender, key] = (answer.id, to, body)

    def expected_refusal(self, sender: str, to: str, body: str, earlier: tuple[int, str, str] | None) -> str | None:
        if earlier:
            same = earlier[1:] == (to, body) or earlier[0] in self.model.edited
            return None if same else "idempotency_conflict"
        names = self.model.resolve(sender, to)
        if isinstance(names, str):
            return names
        full = [len(self.model.waiting(name)) - self.model.from_sender("system", name) >= INBOX_LIMIT for name in names]
        if any(full):
            return "inbox_full"
        if sender not in AGENTS:
            return None
        in_all, to_one = self.model.from_sender(sender), [self.model.from_sender(sender, name) for name in names]
        if in_all >= BUDGETS.unacknowledged or max(to_one) >= BUDGETS.unacknowledged_to_one:
            return "too_many_waiting"
        return "sending_too_fast" if self.model.is_spent(sender, names) else None

    @rule(notices=st.lists(st.tuples(recipients, bodies), max_size=4), fails=st.booleans())
    def announce(self, notices: list[tuple[str, str]], fails: bool) -> None:
        """All that can be delivered is, in order, with what it tells of; or nothing, if that fails."""

        def within(db: sqlite3.Connection) -> int:
            if fails:
                raise HiveError("refused", "no")
            return int(db.execute("SELECT count(*) FROM agents").fetchone()[0])

        call = self.broker.announce(notices, within)
        if fails:
            self.refused("refused", call)
            return
        assert self.run(call) == len(AGENTS)
        last = max(self.model.bodies, default=0)
        newest = self.run(self.database.read(lambda db: db.execute(NEWER, (last,)).fetchall()))
        found = iter(newest)
        for to, body in notices:
            names = self.model.resolve("system", to)
            room = [] if isinstance(names, str) else [n for n in names if self.has_room_for_notice(n)]
            if room:
                number, *stored = next(found)
                assert stored == ["system", to, body]
                self.model.bodies[number] = body
                for name in room:
                    self.model.inboxes[name].append(ModelDelivery(number, "system", to))
        assert next(found, None) is None

    def has_room_for_notice(self, name: str) -> bool:
        return self.model.from_sender("system", name) < INBOX_LIMIT

    @rule(name=agents)
    def hello(self, name: str) -> None:
        self.count += 1
        self.model.instances[name] = f"instance-{self.count}"
        self.run(self.broker.hello(name, self.model.instances[name]))
        for delivery in self.model.waiting(name):
            delivery.holder = None

    @rule(name=agents, most=st.integers(1, 4), knows=st.sampled_from(("nothing", "all it holds", "is not asked")))
    def receive(self, name: str, most: int, knows: str) -> None:
        holding = {
            "nothing": [],
            "all it holds": [delivery.message for delivery in self.model.held(name)],
            "is not asked": None,
        }[knows]
        instance = self.model.instances.get(name)
        request = ReceiveRequest(instance=instance or "never-said-hello", max=most, holding=holding)
        if instance is None:
            self.refused("superseded", self.broker.receive(name, request))
            return
        expected = self.model.free(name, holding)[:most]
        answer = self.run(self.broker.receive(name, request))
        assert [delivery.id for delivery in answer.deliveries] == [delivery.message for delivery in expected]
        assert answer.waiting == len(self.model.waiting(name)) - len(expected)
        for got, delivery in zip(answer.deliveries, expected, strict=True):
            delivery.attempts += 1
            delivery.place = None
            delivery.holder, delivery.until = instance, self.model.now + int(LEASE_SECONDS * 1_000)
            assert (got.attempt, got.redelivered) == (delivery.attempts, delivery.attempts > 1)
            assert got.body == self.model.bodies[got.id]

    @rule(name=agents, stale=st.booleans(), data=st.data())
    def acknowledge(self, name: str, stale: bool, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.model.inboxes[name] or [ModelDelivery(10**9)]), max_size=3))
        ids = [delivery.message for delivery in chosen]
        instance = None if stale else self.model.instances.get(name)
        call = self.broker.acknowledge(name, instance or "stale-instance", ids)
        if instance is None:
            self.refused("superseded", call)
        elif 10**9 in ids:
            self.refused("unknown_message", call)
        elif any(not delivery.done and delivery.holder != instance for delivery in chosen):
            self.refused("lease_lost", call)
        else:
            fresh = [delivery.message for delivery in chosen if not delivery.done]
            assert self.run(call).ids == list(dict.fromkeys(fresh))
            for delivery in chosen:
                delivery.done = True

    @rule(name=agents, everything=st.booleans(), free=st.booleans())
    def release_or_renew(self, name: str, everything: bool, free: bool) -> None:
        held = self.model.held(name)
        chosen = held if everything else held[:1]
        request = LeaseRequest(
            instance=self.model.instances.get(name, "never-said-hello"),
            ids=None if everything else [delivery.message for delivery in chosen],
        )
        call = self.broker.release(name, request) if free else self.broker.renew(name, request)
        if name not in self.model.instances:
            self.refused("superseded", call)
            return
        assert self.run(call).ids == [delivery.message for delivery in chosen]
        for delivery in chosen:
            delivery.holder = None if free else delivery.holder
            delivery.until = self.model.now + int(LEASE_SECONDS * 1_000)

    def chosen(self, data: st.DataObject, name: str) -> tuple[ModelDelivery, str | None]:
        """A delivery that was ever in the inbox, and why the operator cannot change it."""
        delivery = data.draw(st.sampled_from(self.model.inboxes[name] or [ModelDelivery(10**9)]))
        if delivery.message == 10**9:
            return delivery, "unknown_message"
        if delivery.done:
            return delivery, "not_in_queue"
        held = delivery.holder is not None and delivery.until > self.model.now
        return delivery, "being_handled" if held else None

    def sender_is_told(self, delivery: ModelDelivery, what: str, last: int) -> None:
        """An agent hears of it; the operator and the hive itself know."""
        newest = self.run(self.database.read(lambda db: db.execute(NEWER, (last,)).fetchall()))
        told = delivery.sender in AGENTS and self.has_room_for_notice(delivery.sender)
        assert [row[1:3] for row in newest] == [("system", delivery.sender)] * told
        for number, _, to, body in newest:
            assert f"The operator has {what} your message {delivery.message}" in body
            self.model.bodies[number] = body
            self.model.inboxes[to].append(ModelDelivery(number, "system"))

    @rule(name=agents, data=st.data())
    def operator_removes(self, name: str, data: st.DataObject) -> None:
        """What nobody handles is taken out, and is never handed out again."""
        delivery, why = self.chosen(data, name)
        call = self.broker.remove_waiting(name, delivery.message, "no need", "operator:eve")
        if why is not None:
            self.refused(why, call)
            return
        last = max(self.model.bodies)
        self.run(call)
        delivery.done = True
        self.sender_is_told(delivery, "removed", last)

    @rule(name=agents, data=st.data())
    def operator_edits(self, name: str, data: st.DataObject) -> None:
        """The new text is handed out, and says that an agent's is not its own any more."""
        delivery, why = self.chosen(data, name)
        call = self.broker.edit_waiting(name, delivery.message, "better", "operator:eve")
        why = why or ("sent_to_several" if delivery.to == "*" else None)
        if why is not None:
            self.refused(why, call)
            return
        last = max(self.model.bodies)
        self.run(call)
        mark = "" if delivery.sender == "operator" else "\n\n(The operator has edited this message.)"
        self.model.bodies[delivery.message] = f"better{mark}"
        self.model.edited.add(delivery.message)
        self.sender_is_told(delivery, "edited", last)

    @rule(name=agents, to_the_end=st.booleans(), data=st.data())
    def operator_moves(self, name: str, to_the_end: bool, data: st.DataObject) -> None:
        """Messages change places only with such that nobody has got yet, and no agent's with another one of its own."""
        delivery, why = self.chosen(data, name)
        target, why_not = (None, None) if to_the_end else self.chosen(data, name)
        before = None if target is None else target.message
        call = self.broker.move_waiting(name, delivery.message, before, "operator:eve")
        if (why := why or why_not) is not None:
            self.refused(why, call)
            return
        waiting = self.model.waiting(name)
        old = waiting.index(delivery)
        new = len(waiting) if target is None else waiting.index(target)
        passed = waiting[new : old + 1] if new <= old else waiting[old:new]
        others = [other for other in passed if other is not delivery]
        theirs = {other.sender for other in others} - {"operator"}
        if any(other.attempts or other.holder for other in passed) or delivery.sender in theirs:
            self.refused("queue_order", call)
            return
        self.run(call)
        places = [other.place or other.message for other in passed]
        for other, place in zip([delivery, *others] if new <= old else [*others, delivery], places, strict=True):
            other.place = place

    @rule(data=st.data())
    def operator_reads(self, data: st.DataObject) -> None:
        waiting = [delivery.message for delivery in self.model.waiting("operator")]
        answer = self.run(self.broker.inbox(InboxQuery()))
        assert ([message.id for message in answer.messages], answer.unread) == (waiting, len(waiting))
        read = data.draw(st.lists(st.sampled_from(waiting), min_size=1, unique=True)) if waiting else []
        if read:
            assert sorted(self.run(self.broker.mark_read(read)).ids) == sorted(read)
        for delivery in self.model.inboxes["operator"]:
            delivery.done = delivery.done or delivery.message in read

    @rule(seconds=st.sampled_from((1, 9, 11)))
    def time_passes(self, seconds: int) -> None:
        self.model.pass_time(seconds)

    @rule()
    def daemon_restarts(self) -> None:
        """Two minutes later, after which no budget is spent any more."""
        self.run(self.close())
        self.model.pass_time(120)
        self.run(self.open())

    @rule()
    def old_messages_are_vacuumed(self) -> None:
        """Nothing that is not acknowledged goes; a key is forgotten with its message."""
        self.model.now += 1
        self.run(self.broker.vacuum(retention_days=0))
        alive = {delivery.message for name in self.model.inboxes for delivery in self.model.waiting(name)}
        for name, inbox in self.model.inboxes.items():
            self.model.inboxes[name] = [delivery for delivery in inbox if not delivery.done]
        # A message to everyone but the sender, in a hive of one, has no deliveries and is not kept for anybody.
        self.model.stored = {slot: kept for slot, kept in self.model.stored.items() if kept[0] in alive}

    @rule(name=agents)
    def purge(self, name: str) -> None:
        """What waited for a purged agent is counted, and gone."""
        assert self.run(self.database.write(lambda db: self.broker.delete_agent(db, name))) == len(
            self.model.waiting(name)
        )
        self.broker.was_deleted(name)
        self.model.inboxes[name] = []
        self.model.spent = {key: spent for key, spent in self.model.spent.items() if name not in key}
        left = {delivery.message for inbox in self.model.inboxes.values() for delivery in inbox}
        self.model.stored = {slot: kept for slot, kept in self.model.stored.items() if kept[0] in left}

    @invariant()
    def counts_agree(self) -> None:
        for name in self.model.inboxes if hasattr(self, "broker") else ():
            assert self.broker.unacknowledged(name) == len(self.model.waiting(name))

    def refused(self, code: str, call: Coroutine[Any, Any, object]) -> None:
        with pytest.raises(HiveError) as refusal:
            self.run(call)
        assert refusal.value.code == code


TestBroker = BrokerMachine.TestCase


async def test_a_waiting_recipient_is_woken(tmp_path: Path) -> None:
    """A long poll that was there first gets the message when it is sent, and not at its time-out."""
    machine = BrokerMachine()
    machine.directory_path, machine.model = tmp_path, Model()
    await machine.open()
    await machine.broker.hello("ada", "instance-1")
    polling = asyncio.create_task(
        machine.broker.receive("ada", ReceiveRequest(instance="instance-1", wait_seconds=60.0))
    )
    await asyncio.sleep(0)
    await machine.broker.send("operator", SendRequest(to="ada", body="wake up"))
    async with asyncio.timeout(10):
        assert [delivery.body for delivery in (await polling).deliveries] == ["wake up"]
    await machine.close()


async def test_a_poll_that_is_given_up_holds_nothing(tmp_path: Path) -> None:
    """A message leased for a caller that hung up meanwhile is free again, whenever the hang-up came."""
    machine = BrokerMachine()
    machine.directory_path, machine.model = tmp_path, Model()
    await machine.open()
    await machine.broker.hello("ada", "instance-1")
    await machine.broker.send("operator", SendRequest(to="ada", body="for somebody who listens"))
    request = ReceiveRequest(instance="instance-1", wait_seconds=60.0)
    for steps in range(6):
        polling = asyncio.create_task(machine.broker.receive("ada", request))
        for _ in range(steps):
            await asyncio.sleep(0)
        polling.cancel()
        with suppress(asyncio.CancelledError):
            await polling
        async with asyncio.timeout(10):
            answer = await machine.broker.receive("ada", request)
        assert len(answer.deliveries) == 1
        await machine.broker.release("ada", LeaseRequest(instance="instance-1"))
    await machine.close()
