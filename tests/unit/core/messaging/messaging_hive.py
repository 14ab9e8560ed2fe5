"""A broker over a real database, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import Broker, Directory, Member
from hive_core.protocol import LeaseRequest, ReceiveAnswer, ReceiveRequest, SendRequest

AGENTS = ("ada", "bob")
FIRST = "instance-1"
LEASE_SECONDS = 10


class Hive:
    """ada and bob, of whom ada has said hello as `FIRST`."""

    def __init__(self, path: Path) -> None:
        self.now = 1_000_000
        self.commits = 0
        self._path = path
        self.events = EventHub()

    async def open(self) -> None:
        self.database = await Database.open(self._path / "hive.sqlite", self._committed)
        self.writing = asyncio.create_task(self.database.run())
        self._directory = directory = Directory()
        for name in AGENTS:
            directory.put(Member(name, "agent"))
            await self.database.write(
                lambda db, name=name: db.execute(  # type: ignore[misc]
                    "INSERT INTO agents VALUES (?, 'agent', 'running', '{}', '', 0, NULL, 0, '', '')", (name,)
                ).fetchone()
            )
        self.inbox_limit(10_000)
        await self.broker.open()
        await self.broker.hello("ada", FIRST)

    def inbox_limit(self, limit: int) -> None:
        """A broker that allows so many messages per recipient; to be asked for before anything is sent."""
        self.broker = Broker(
            self.database,
            self._directory,
            self.events,
            inbox_limit=limit,
            lease_seconds=LEASE_SECONDS,
            clock=lambda: self.now,
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
