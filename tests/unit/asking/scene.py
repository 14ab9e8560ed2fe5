"""Questions and reminders over a real database and broker, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hive_core.asking import Due, Questions, Reminders
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import Broker, Directory, Member
from hive_core.protocol import AskRequest, Question, ReceiveAnswer, ReceiveRequest, Reminder, RemindRequest

INSTANCE = "instance-1"
RETRY_SECONDS = 0.05
Told = tuple[str, str, str, int | None]
"""A stored message: sender, recipient, body, what it answers."""


class Scene:
    """ada and bob, who may write to each other only; `close` and `open` are a daemon's end and the next one's start."""

    def __init__(self, path: Path, inbox_limit: int = 10_000) -> None:
        self.now = 1_800_000_000_000
        self.agents = ["ada", "bob"]
        self.inbox_limit = inbox_limit
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
            lease_seconds=60.0,
            clock=lambda: self.now,
        )
        await self.broker.open()
        for name in self.agents:
            await self.add(name)
        self.questions = Questions(self.database, self.broker, self.directory, self.events, lambda: self.now)
        self.reminders = Reminders(self.database, self.broker, lambda: self.now)
        self.due = Due(self.database, self.questions, self.reminders, lambda: self.now, retry_seconds=RETRY_SECONDS)

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
        self._running = asyncio.create_task(self.due.run())

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
