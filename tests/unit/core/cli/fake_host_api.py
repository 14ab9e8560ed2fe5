"""A fake of the daemon behind `host.sock`: the wire is the protocol's own models, what it answers is set by tests.

It keeps no rules of the hive; those are tested with the real daemon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from hive_core.protocol import (
    AgentList,
    AgentStatus,
    DestroyAnswer,
    DestroyRequest,
    Event,
    EventKind,
    EventsQuery,
    HiveStatus,
    InboxAnswer,
    InboxQuery,
    LeaseAnswer,
    Limits,
    LimitsAnswer,
    LimitsRequest,
    LogsAnswer,
    LogsQuery,
    MarkReadRequest,
    Message,
    ReplyAnswer,
    SendAnswer,
    SendRequest,
    SpawnAnswer,
    SpawnRequest,
    Usage,
    WaitQuery,
)
from hive_core.protocol.network.access import RefusedHost
from tests.unit.core.cli.commands.work.fake_host_work import FakeHostWork
from tests.unit.core.cli.fake_host_gate import FakeHostGate
from tests.unit.core.cli.fake_host_http import Refusal, answered
from tests.unit.core.cli.fake_host_questions import FakeHostQuestions

M = TypeVar("M", bound=BaseModel)


def ago(**time: float) -> datetime:
    """A moment before now."""
    return datetime.now(UTC) - timedelta(**time)


def agent(name: str, **changes: object) -> AgentStatus:
    """A running, idle agent, with `changes`."""
    fields: dict[str, object] = {
        "name": name, "kind": "manager" if name == "hm1nd" else "agent", "lifecycle": "running", "state": "idle",
        "backend": "scripted", "model": None, "detail": "", "state_since": ago(minutes=3, seconds=5),
        "started_at": ago(hours=2), "pid": 4711, "restarts": 0, "exit_cause": "", "unacked": 0,
        "web_port": 8100, "deployment": 0, "confinement": "bubblewrap",
    }  # fmt: skip
    return AgentStatus.model_validate(fields | changes)


def message(number: int, sender: str, body: str, *, to: str = "operator", reply_to: int | None = None) -> Message:
    """A message of two minutes ago."""
    return Message(id=number, sender=sender, to=to, body=body, reply_to=reply_to, sent_at=ago(minutes=2, seconds=5))


class FakeHost:
    """Answers on a socket. Tests set the public fields, and read in `asked` what the program asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[tuple[str, str, BaseModel | None]] = []
        self.agents: list[AgentStatus] = []
        self.later: list[AgentStatus] = []
        """States through which a spawned agent goes, one for each time that it is asked about."""
        self.refusal: Refusal | None = None
        self.refused_spawn: Refusal | None = None
        self.spawn_warnings: list[str] = []
        self.inbox: list[Message] = []
        self.unread = 0
        self.read: list[int] = []
        self.reply: Message | None = None
        self.handled = False
        self.asked_for_reply = asyncio.Event()
        self.logs: list[LogsAnswer] = []
        self.limits = LimitsAnswer(
            name="alice",
            configured=Limits(memory_max="2G"),
            in_force=Limits(memory_max="2G"),
            enforced=True,
            usage=Usage(),
        )
        self.refused_hosts: list[RefusedHost] = []
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        """What the stream tells; None breaks the connection off."""
        self.watching = asyncio.Event()
        self.streams: list[tuple[int | None, str | None]] = []
        """`after` and Last-Event-ID of each stream."""
        self.raw: bytes | None = None
        """Answered to everything, if set."""
        self.gate = FakeHostGate(self)
        self.asking = FakeHostQuestions(self)
        self.working = FakeHostWork(self)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        self.events = asyncio.Queue()
        application = web.Application(middlewares=[self._frame], client_max_size=2 * 1024 * 1024)
        application.add_routes(
            [
                web.get("/v1/status", self._status),
                web.get("/v1/agents", self._agents),
                web.post("/v1/agents", self._spawn),
                web.get("/v1/agents/{name}", self._agent),
                web.get("/v1/agents/{name}/logs", self._logs),
                web.post("/v1/agents/{name}/destroy", self._destroy),
                web.get("/v1/agents/{name}/limits", self._limits),
                web.get("/v1/agents/{name}/network", self._network),
                web.post("/v1/agents/{name}/limits", self._limit),
                web.post("/v1/agents/{name}/{action:start|stop|restart}", self._act),
                web.post("/v1/messages", self._send),
                web.get("/v1/messages", self._inbox),
                web.post("/v1/messages/read", self._mark_read),
                web.get("/v1/messages/{id}/reply", self._reply),
                web.get("/v1/events", self._events),
                *self.gate.routes(),
                *self.asking.routes(),
                *self.working.routes(),
            ]
        )
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        """Go away, with the socket."""
        if self._runner is not None:
            self.events.put_nowait(None)
            await self._runner.cleanup()
            self.path.unlink(missing_ok=True)
            self._runner = None

    def happens(self, number: int, kind: EventKind, /, **data: object) -> Event:
        """Tell an event to who watches."""
        event = Event(id=number, kind=kind, at=datetime.now(UTC), data=data)
        self.events.put_nowait(event)
        return event

    @web.middleware
    async def _frame(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if self.raw is not None:
            return web.Response(body=self.raw)
        try:
            if self.refusal is not None:
                raise self.refusal
            return await handler(request)
        except Refusal as refusal:
            return web.Response(
                status=refusal.status, text=refusal.answer.model_dump_json(), content_type="application/json"
            )

    def noted(self, request: web.Request, body: BaseModel | None = None) -> None:
        self.asked.append((request.method, request.path, body))

    async def body(self, request: web.Request, model: type[M]) -> M:
        try:
            body = model.model_validate_json(await request.read())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise Refusal(400, "invalid_request", f"{where}: {first['msg']}") from None
        self.noted(request, body)
        return body

    def query(self, request: web.Request, model: type[M]) -> M:
        query = model.model_validate(dict(request.query))
        self.noted(request, query)
        return query

    def _named(self, request: web.Request) -> AgentStatus:
        for one in self.agents:
            if one.name == request.match_info["name"]:
                return one
        raise Refusal(404, "unknown_agent", f"there is no agent {request.match_info['name']!r}", "see the list")

    async def _status(self, request: web.Request) -> web.Response:
        return answered(
            HiveStatus(
                proposal_bytes={"ada": 60 * 1024 * 1024, "bob": 1024},
                proposal_limit=64 * 1024 * 1024,
                version="0.1.0",
                pid=42,
                started_at=ago(hours=2),
                state_dir="/var/lib/hyperhive",
                runtime="local",
                confinement="bubblewrap: own namespaces, own /tmp",
                agents={"running": 2, "stopped": 1, "failed": 0},
                messages_stored=120,
                messages_unacked=4,
                operator_unread=2,
            )
        )

    async def _agents(self, request: web.Request) -> web.Response:
        self.noted(request)
        return answered(AgentList(agents=self.agents))

    async def _spawn(self, request: web.Request) -> web.Response:
        body = await self.body(request, SpawnRequest)
        if self.refused_spawn is not None:
            raise self.refused_spawn
        made = agent(body.name, state="starting" if body.start else "offline")
        self.agents.append(made)
        return answered(SpawnAnswer(**made.model_dump(), warnings=self.spawn_warnings))

    async def _agent(self, request: web.Request) -> web.Response:
        found = self._named(request)
        return answered(self.later.pop(0) if self.later else found)

    async def _act(self, request: web.Request) -> web.Response:
        self.noted(request)
        lifecycle = "stopped" if request.match_info["action"] == "stop" else "running"
        return answered(self._named(request).model_copy(update={"lifecycle": lifecycle}))

    async def _destroy(self, request: web.Request) -> web.Response:
        body = await self.body(request, DestroyRequest)
        return answered(DestroyAnswer(name=self._named(request).name, purged=body.purge, dropped_messages=3))

    async def _network(self, request: web.Request) -> web.Response:
        return web.json_response({"refused": [each.model_dump(mode="json") for each in self.refused_hosts]})

    async def _limits(self, request: web.Request) -> web.Response:
        self.noted(request)
        return answered(self.limits)

    async def _limit(self, request: web.Request) -> web.Response:
        body = await self.body(request, LimitsRequest)
        asked = body.model_dump(exclude={"reset"}, exclude_none=True)
        return answered(self.limits.model_copy(update={"in_force": Limits.model_validate(asked)}))

    async def _logs(self, request: web.Request) -> web.Response:
        query = self.query(request, LogsQuery)
        if not self.logs:
            await asyncio.sleep(query.wait_seconds)
            return answered(LogsAnswer(lines=[], cursor=query.cursor or "0"))
        return answered(self.logs.pop(0))

    async def _send(self, request: web.Request) -> web.Response:
        body = await self.body(request, SendRequest)
        return answered(SendAnswer(id=7, recipients=[body.to], duplicate=False))

    async def _inbox(self, request: web.Request) -> web.Response:
        self.query(request, InboxQuery)
        return answered(InboxAnswer(messages=self.inbox, unread=self.unread))

    async def _mark_read(self, request: web.Request) -> web.Response:
        body = await self.body(request, MarkReadRequest)
        self.read += body.ids
        return answered(LeaseAnswer(ids=body.ids))

    async def _reply(self, request: web.Request) -> web.Response:
        query = self.query(request, WaitQuery)
        self.asked_for_reply.set()
        if self.reply is None and not self.handled:
            await asyncio.sleep(query.wait_seconds)
        return answered(ReplyAnswer(reply=self.reply, handled=self.handled))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        query = self.query(request, EventsQuery)
        self.streams.append((query.after, request.headers.get("Last-Event-ID")))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": welcome\n\n")
        self.watching.set()
        while (event := await self.events.get()) is not None:
            text = f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
            await response.write(text.encode())
        assert request.transport is not None
        request.transport.abort()
        return response
