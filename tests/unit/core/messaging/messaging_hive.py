"""A broker over a real database, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from hive_core.infra.database.database import Database
from hive_core.infra.database.space import DatabaseSpace
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import Broker, Directory, Member, Questions, Reminders, Scheduler
from hive_core.protocol import (
    AskRequest,
    LeaseRequest,
    Question,
    ReceiveAnswer,
    ReceiveRequest,
    Reminder,
    RemindRequest,
    SendRequest,
)
from hive_core.settings import Budgets

AGENTS = ("ada", "bob")
UNLIMITED = Budgets(**dict.fromkeys(Budgets.model_fields, 10**12))
"""For tests of other things."""
FIRST = "instance-1"
LEASE_SECONDS = 10


class MessagingHive:
    """ada and bob, of whom ada has said hello as `FIRST`."""

    def __init__(self, path: Path) -> None:
        self.now = 1_000_000
        self.set_back = 0
        """Milliseconds by which the host's clock was set back."""
        self.commits = 0
        self._path = path
        self.events = EventHub()

    async def open(self) -> None:
        self.database = await Database.open(self._path / "hive.sqlite", self._committed)
        self.writing = asyncio.create_task(self.database.run())
        self._directory = directory = Directory()
        columns = "name, kind, desired, config, prompt, deployment, created_at"
        statement = f"INSERT INTO agents ({columns}) VALUES (?, 'agent', 'running', '{{}}', '', 0, 0)"
        for name in AGENTS:
            directory.put(Member(name, "agent"))
            await self.database.write(
                lambda db, name=name: db.execute(statement, (name,)).fetchone()  # type: ignore[misc]
            )
        self.inbox_limit(10_000)
        await self.broker.open()
        await self.broker.hello("ada", FIRST)

    def inbox_limit(self, limit: int, budgets: Budgets = UNLIMITED, space: DatabaseSpace | None = None) -> None:
        """A broker that allows so many messages per recipient; to be asked for before anything is sent."""
        self.broker = Broker(
            self.database,
            self._directory,
            self.events,
            inbox_limit=limit,
            budgets=budgets,
            space=space,
            lease_seconds=LEASE_SECONDS,
            clock=lambda: self.now - self.set_back,
            steady=lambda: self.now,
            ticks=lambda: self.now / 1_000,
        )

    def _committed(self, _: int) -> None:
        self.commits += 1

    async def close(self) -> None:
        self.broker.close()
        self.database.finish()
        await self.writing
        await self.database.close()

    async def send(self, *bodies: str, to: str = "ada", sender: str = "bob", reply_to: int | None = None) -> list[int]:
        """Send bodies in order; their ids."""
        requests = [SendRequest(to=to, body=body, reply_to=reply_to) for body in bodies]
        return [answer.id for answer in await asyncio.gather(*(self.broker.send(sender, one) for one in requests))]

    def receive(
        self, *, most: int = 100, wait: float = 0.0, holding: list[int] | None = None, instance: str = FIRST
    ) -> asyncio.Task[ReceiveAnswer]:
        """A receive of ada under way."""
        request = ReceiveRequest(instance=instance, max=most, wait_seconds=wait, holding=holding)
        return asyncio.create_task(self.broker.receive("ada", request))

    async def received(self, *, most: int = 100, holding: list[int] | None = None) -> list[int]:
        """What ada is given now."""
        return [delivery.id for delivery in (await self.receive(most=most, holding=holding)).deliveries]

    async def acknowledge(self, ids: Sequence[int], instance: str = FIRST) -> list[int]:
        return (await self.broker.acknowledge("ada", instance, ids)).ids

    async def renew(self, ids: list[int] | None = None, instance: str = FIRST) -> list[int]:
        return (await self.broker.renew("ada", LeaseRequest(instance=instance, ids=ids))).ids

    async def release(self, ids: list[int] | None = None, instance: str = FIRST) -> list[int]:
        return (await self.broker.release("ada", LeaseRequest(instance=instance, ids=ids))).ids


INSTANCE = "instance-1"
RETRY_SECONDS = 0.05
Told = tuple[str, str, str, int | None]
"""A stored message: sender, recipient, body, what it answers."""


class QuestionHive:
    """ada and bob, who may write to each other only; `close` and `open` are a daemon's end and the next one's start."""

    def __init__(self, path: Path, inbox_limit: int = 10_000, budgets: Budgets = UNLIMITED) -> None:
        self.now = 1_800_000_000_000
        self.set_back = 0
        self.agents = ["ada", "bob"]
        self.inbox_limit = inbox_limit
        self.budgets = budgets
        self._path = path
        self._running: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.database = await Database.open(self._path / "hive.sqlite")
        self._writing = asyncio.create_task(self.database.run())
        self.directory = Directory()
        self.events = EventHub()
        self.broker = Broker(
            self.database,
            self.directory,
            self.events,
            inbox_limit=self.inbox_limit,
            budgets=self.budgets,
            lease_seconds=60.0,
            clock=lambda: self.now - self.set_back,
            steady=lambda: self.now,
        )
        await self.broker.open()
        for name in self.agents:
            await self.add(name)
        self.questions = Questions(self.database, self.broker, self.directory, self.events, lambda: self.now)
        self.reminders = Reminders(self.database, self.broker, lambda: self.now - self.set_back)
        self.scheduler = Scheduler(
            self.database,
            self.questions,
            self.reminders,
            lambda: self.now - self.set_back,
            steady=lambda: self.now,
            retry_seconds=RETRY_SECONDS,
        )

    async def add(self, name: str) -> None:
        """There is such an agent, or there is one again."""
        allowed = frozenset({"ada"}) if name == "bob" else None
        self.directory.put(Member(name, "agent", allowed))
        columns = "name, kind, desired, config, prompt, deployment, created_at"
        values = "?, 'agent', 'running', '{}', '', 0, 0"
        await self.database.write(
            lambda db: db.execute(
                f"INSERT INTO agents ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING", (name,)
            ).fetchone()
        )

    async def remove(self, name: str) -> None:
        """The agent is destroyed, and what it asked for is kept."""
        self.directory.remove(name)
        await self.database.write(lambda db: db.execute("DELETE FROM agents WHERE name = ?", (name,)).fetchone())

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
            self._running = None
        self.broker.close()
        self.database.finish()
        await self._writing
        await self.database.close()

    async def restart(self) -> None:
        """The daemon ends, and another begins."""
        await self.close()
        await self.open()

    def run(self) -> None:
        """Let time bring what it brings, in the background."""
        self._running = asyncio.create_task(self.scheduler.run())

    async def ask(self, text: str = "Which?", agent: str = "ada", **more: object) -> Question:
        return await self.questions.ask(agent, AskRequest.model_validate({"text": text, **more}))

    async def remind(self, text: str = "look", agent: str = "ada", **more: object) -> Reminder:
        return await self.reminders.remind(agent, RemindRequest.model_validate({"text": text, **more}))

    async def next_of(self, agent: str = "ada", seconds: float = 30.0) -> ReceiveAnswer:
        """The next messages of an agent, waited for."""
        await self.broker.hello(agent, INSTANCE)
        return await self.broker.receive(agent, ReceiveRequest(instance=INSTANCE, wait_seconds=seconds, max=100))

    async def told(self, to: str | None = None) -> list[Told]:
        """Every message that is stored, or every one to somebody, in order."""
        query = "SELECT sender, recipient, body, reply_to FROM messages WHERE ? IN (recipient, '') ORDER BY id"
        return await self.database.read(lambda db: db.execute(query, (to or "",)).fetchall())
