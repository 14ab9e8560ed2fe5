"""Senders and a reader that go on while the daemon comes and goes, and remember what they were told."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.helpers.real_daemon import Json
from tests.integration.crash.invariants import Accepted

_PAUSE = 0.02
_AWAY = 0.2


class Unanswered(Exception):
    """The daemon was not there, went away, or said that it is stopping: the request may or may not be carried out."""


REPEATABLE = frozenset({"stopping", "inbox_full"})
"""Refusals of a send that may succeed later."""


class Line:
    """Requests on one socket, over connections that are kept while they last."""

    def __init__(self, place: Path, repeatable: frozenset[str] = REPEATABLE) -> None:
        """`repeatable` are codes of refusals that break no promise."""
        self._repeatable = repeatable
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(place)))

    async def once(self, method: str, path: str, body: object = None) -> Json:
        """The answer; raises Unanswered. Any refusal that is not repeatable breaks a promise."""
        try:
            async with self._session.request(method, f"http://hive{path}", json=body) as response:
                answer: Json = json.loads(await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise Unanswered(str(error)) from None
        if response.status == 200:
            return answer
        if answer["error"]["code"] in self._repeatable:
            raise Unanswered(answer["error"]["code"])
        raise AssertionError(f"{method} {path}: {response.status} {answer}")

    async def until_answered(self, method: str, path: str, body: object = None) -> Json:
        """Repeat the request until it is answered."""
        while True:
            try:
                return await self.once(method, path, body)
            except Unanswered:
                await asyncio.sleep(_PAUSE)

    async def close(self) -> None:
        await self._session.close()


@dataclass(frozen=True)
class LoadSender:
    """One client with one send in flight. `keyed` ones repeat a send until they hear ok, others never do."""

    name: str
    agent: str | None
    to: str
    keyed: bool
    pause: float


@dataclass
class Sent:
    """What the senders heard."""

    accepted: list[Accepted] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    unanswered: int = 0

    def bodies(self, sender: str) -> list[str]:
        """What one sender was told is stored, in the order in which it was told so."""
        return [sent.body for sent in self.accepted if sent.body.startswith(f"{sender}:")]


class Load:
    """Runs senders, and a reader of the operator's inbox, until told to stop."""

    def __init__(
        self,
        senders: Sequence[LoadSender],
        place: dict[str | None, Path],
        seed: str,
        repeatable: frozenset[str] = REPEATABLE,
    ) -> None:
        self.sent = Sent()
        self.read: dict[int, str] = {}
        self.marked: list[int] = []
        self._senders = senders
        self._lines = {agent: Line(path, repeatable) for agent, path in place.items()}
        self._random = random.Random(seed)
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """Under load within the block; `stop` ends it in good order, leaving the block by an error at once."""
        self._tasks = [asyncio.create_task(self._send(sender)) for sender in self._senders]
        self._tasks.append(asyncio.create_task(self._read()))
        try:
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for line in self._lines.values():
                await line.close()

    def check(self) -> None:
        """Raise what a sender or the reader has failed with."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def stop(self, seconds: float = 60.0) -> None:
        """Begin nothing new, and wait until what is under way is answered; the reader goes on."""
        self._stop.set()
        async with asyncio.timeout(seconds):
            await asyncio.gather(*self._tasks[:-1])

    async def _send(self, sender: LoadSender) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            body = f"{sender.name}:{number}"
            request: Json = {"to": sender.to, "body": body}
            line = self._lines[sender.agent]
            if sender.keyed:
                self.sent.repeated.append(body)
                self._accepted(
                    body, await line.until_answered("POST", "/v1/messages", {**request, "idempotency_key": body})
                )
            else:
                try:
                    self._accepted(body, await line.once("POST", "/v1/messages", request))
                except Unanswered:
                    self.sent.unanswered += 1
                    await asyncio.sleep(_AWAY)
            with suppress(TimeoutError):
                async with asyncio.timeout(sender.pause * 2 * self._random.random()):
                    await self._stop.wait()

    def _accepted(self, body: str, answer: Json) -> None:
        self.sent.accepted.append(Accepted(answer["id"], body, tuple(answer["recipients"])))

    async def _read(self) -> None:
        """The operator: reads what is unread, marks it, and notes what it was told that this changed."""
        line = self._lines[None]
        while True:
            answer = await line.until_answered("GET", "/v1/messages?limit=1000")
            for message in answer["messages"]:
                self.read[message["id"]] = message["body"]
            if ids := [message["id"] for message in answer["messages"]]:
                self.marked += (await line.until_answered("POST", "/v1/messages/read", {"ids": ids}))["ids"]
            await asyncio.sleep(0.05)
