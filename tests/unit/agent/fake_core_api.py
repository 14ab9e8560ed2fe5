"""A fake of the daemon's core.sock: real HTTP on a real unix socket, with messages kept in memory.

It leases, releases and acknowledges as the daemon does, notes every request, and can be told to refuse or to go
away, which the daemon cannot on request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from hive_core.protocol import (
    AckRequest,
    AgentConfig,
    AskForHost,
    Delivery,
    Done,
    ErrorAnswer,
    ErrorBody,
    HelloRequest,
    Kind,
    LeaseAnswer,
    LeaseRequest,
    LogsAnswer,
    NetworkRequest,
    Peer,
    PeerList,
    Profile,
    ReceiveAnswer,
    ReceiveRequest,
    SendAnswer,
    SendRequest,
    StateRequest,
    WhoAmI,
)
from tests.unit.agent.fake_core_gate import FakeCoreGate
from tests.unit.agent.fake_core_questions import FakeCoreQuestions

Handler = Callable[[web.Request], Any]


@dataclass
class Stored:
    """A message for the agent."""

    delivery: Delivery
    holder: str | None = None
    acknowledged: bool = False


@dataclass
class FakeCore:
    """One agent's core.sock. What happened is in the lists; `until` waits for more to happen."""

    socket: Path
    name: str = "alice"
    kind: Kind = "agent"
    config: AgentConfig = field(default_factory=AgentConfig)
    prompt: str = ""
    lease_seconds: float = 60.0
    crashed: bool = False
    messages: dict[int, Stored] = field(default_factory=dict)
    sent: list[SendRequest] = field(default_factory=list)
    hosts: list[AskForHost] = field(default_factory=list)
    hellos: list[HelloRequest] = field(default_factory=list)
    states: list[StateRequest] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    refusals: dict[str, tuple[int, ErrorBody]] = field(default_factory=dict)
    """By `METHOD path`: answered with this error as long as it is in here."""
    raw: dict[str, str] = field(default_factory=dict)
    """By `METHOD path`: answered with this text and status 200."""
    refuse_send: Callable[[SendRequest], tuple[int, ErrorBody] | None] = lambda _request: None
    refuse_ack: Callable[[list[int]], tuple[int, ErrorBody] | None] = lambda _ids: None
    keys: dict[str, int] = field(default_factory=dict)
    gate: FakeCoreGate = field(default_factory=FakeCoreGate)
    asking: FakeCoreQuestions = field(default_factory=FakeCoreQuestions)
    _next: int = 1
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _runner: web.AppRunner | None = None

    # --- what a test does ---------------------------------------------------------------------------------------

    async def deliver(self, body: str, sender: str = "operator", reply_to: int | None = None) -> int:
        """Let a message wait for the agent."""
        number = self._number()
        self.messages[number] = Stored(
            Delivery(
                id=number,
                sender=sender,
                to=self.name,
                body=body,
                reply_to=reply_to,
                sent_at=datetime.now(UTC),
                attempt=0,
                redelivered=False,
            )
        )
        await self._tell()
        return number

    async def until(self, true: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait until something that happened made `true` so."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: bool(true()))

    def acknowledged(self) -> list[int]:
        return [number for number, stored in self.messages.items() if stored.acknowledged]

    def state_names(self) -> list[str]:
        return [state.state for state in self.states]

    async def start(self) -> None:
        """Listen; a daemon that starts again finds its messages."""
        app = web.Application(client_max_size=4 * 1024 * 1024)
        for method, path, handler in [
            ("GET", "/v1/whoami", self._whoami),
            ("GET", "/v1/agents", self._peers),
            ("POST", "/v1/harness/hello", self._hello),
            ("POST", "/v1/harness/state", self._state),
            ("POST", "/v1/messages", self._send),
            ("POST", "/v1/messages/receive", self._receive),
            ("POST", "/v1/messages/ack", self._ack),
            ("POST", "/v1/messages/release", self._release),
            ("POST", "/v1/messages/renew", self._renew),
            ("POST", "/v1/agents/{name}/{action:start|stop|restart}", self._change_agent),
            ("GET", "/v1/agents/{name}/logs", self._logs),
            *self.gate.routes(),
            *self.asking.routes(),
            ("*", "/v1/work{rest:.*}", self._unknown),
            ("GET", "/v1/budget", self._unknown),
            ("POST", "/v1/network/requests", self._ask_for_host),
        ]:
            app.router.add_route(method, path, self._noted(handler))
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def stop(self) -> None:
        """Go away, in the middle of whatever is going on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # --- endpoints ------------------------------------------------------------------------------------------------

    def _noted(self, handler: Handler) -> Handler:
        async def noted(request: web.Request) -> web.StreamResponse:
            call = f"{request.method} {request.path}"
            self.calls.append(call)
            await self._tell()
            if call in self.refusals:
                return _refusal(*self.refusals[call])
            if call in self.raw:
                return web.Response(text=self.raw[call])
            answer = await handler(request)
            await self._tell()
            if isinstance(answer, web.StreamResponse):
                return answer
            return web.json_response(text=answer.model_dump_json())

        return noted

    async def _unknown(self, _request: web.Request) -> Any:
        return _refusal(404, ErrorBody(code="not_found", message="there is nothing at this path"))

    async def _ask_for_host(self, request: web.Request) -> NetworkRequest:
        asked = AskForHost.model_validate_json(await request.read())
        self.hosts.append(asked)
        now = datetime.now(UTC)
        return NetworkRequest(id=1, agent=self.name, state="open", asked_at=now, **asked.model_dump())

    async def _hello(self, request: web.Request) -> Profile:
        hello = HelloRequest.model_validate_json(await request.read())
        self.hellos.append(hello)
        for stored in self.messages.values():
            if not hello.again and not stored.acknowledged:
                stored.holder = None  # What an earlier harness held is free.
        return Profile(
            name=self.name,
            kind=self.kind,
            config=self.config,
            prompt=self.prompt,
            deployment=1,
            lease_seconds=self.lease_seconds,
            crashed=self.crashed,
        )

    async def _state(self, request: web.Request) -> Done:
        self.states.append(StateRequest.model_validate_json(await request.read()))
        return Done()

    async def _send(self, request: web.Request) -> Any:
        send = SendRequest.model_validate_json(await request.read())
        refused = self.refuse_send(send)
        if refused is not None:
            return _refusal(*refused)
        key = send.idempotency_key
        if key is not None and key in self.keys:
            return SendAnswer(id=self.keys[key], recipients=[send.to], duplicate=True)
        number = self._number()
        if key is not None:
            self.keys[key] = number
        self.sent.append(send)
        return SendAnswer(id=number, recipients=[send.to])

    async def _receive(self, request: web.Request) -> ReceiveAnswer:
        wanted = ReceiveRequest.model_validate_json(await request.read())
        try:
            async with asyncio.timeout(wanted.wait_seconds), self._changed:
                await self._changed.wait_for(lambda: self._free(wanted))
        except TimeoutError:
            pass
        given = self._free(wanted)[: wanted.max]
        for stored in given:
            stored.holder = wanted.instance
            attempt = stored.delivery.attempt + 1
            stored.delivery = stored.delivery.model_copy(update={"attempt": attempt, "redelivered": attempt > 1})
        waiting = sum(not stored.acknowledged for stored in self.messages.values()) - len(given)
        return ReceiveAnswer(deliveries=[stored.delivery for stored in given], waiting=waiting)

    async def _ack(self, request: web.Request) -> Any:
        lease = AckRequest.model_validate_json(await request.read())
        refused = self.refuse_ack(lease.ids)
        if refused is not None:
            return _refusal(*refused)
        for number in lease.ids:
            assert self.messages[number].holder == lease.instance
            self.messages[number].acknowledged = True
        return LeaseAnswer(ids=lease.ids)

    async def _release(self, request: web.Request) -> LeaseAnswer:
        held = self._held(LeaseRequest.model_validate_json(await request.read()))
        for number in held:
            self.messages[number].holder = None
        return LeaseAnswer(ids=held)

    async def _renew(self, request: web.Request) -> LeaseAnswer:
        return LeaseAnswer(ids=self._held(LeaseRequest.model_validate_json(await request.read())))

    async def _whoami(self, _request: web.Request) -> WhoAmI:
        return WhoAmI(name=self.name, kind=self.kind, allowed_recipients=self.config.allowed_recipients, deployment=1)

    async def _peers(self, _request: web.Request) -> PeerList:
        return PeerList(
            agents=[
                Peer(name="hm1nd", kind="manager", lifecycle="running", state="idle"),
                Peer(name="bob", kind="agent", lifecycle="stopped", state="offline", status="done\nwith it"),
            ]
        )

    async def _change_agent(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "name": request.match_info["name"],
                "kind": "agent",
                "lifecycle": "stopped" if request.match_info["action"] == "stop" else "running",
                "state": "offline",
                "backend": "scripted",
                "model": None,
                "detail": "",
                "state_since": None,
                "started_at": None,
                "pid": None,
                "restarts": 0,
                "exit_cause": "",
                "unacked": 2,
                "web_port": 8100,
                "deployment": 1,
                "confinement": "none",
            }
        )

    async def _logs(self, request: web.Request) -> LogsAnswer:
        return LogsAnswer(
            lines=[f"{request.query_string} {number:05} {'x' * 100}" for number in range(1_000)], cursor=""
        )

    # --------------------------------------------------------------------------------------------------------------

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _free(self, wanted: ReceiveRequest) -> list[Stored]:
        holding = wanted.holding
        return [
            stored
            for number, stored in self.messages.items()
            if not stored.acknowledged
            and (
                stored.holder is None
                or (holding is not None and stored.holder == wanted.instance and number not in holding)
            )
        ]

    def _held(self, lease: LeaseRequest) -> list[int]:
        return [
            number
            for number, stored in self.messages.items()
            if stored.holder == lease.instance
            and not stored.acknowledged
            and (lease.ids is None or number in lease.ids)
        ]

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def refusal(status: int, code: str, message: str, hint: str = "") -> tuple[int, ErrorBody]:
    return status, ErrorBody(code=code, message=message, hint=hint)


def _refusal(status: int, body: ErrorBody) -> web.Response:
    return web.json_response(text=ErrorAnswer(error=body).model_dump_json(), status=status)


def _socket_in(run: Path) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    return run / "core.sock"


@asynccontextmanager
async def fake_core(run: Path, **values: Any) -> AsyncIterator[FakeCore]:
    """A fake that listens on `run`/core.sock."""
    core = FakeCore(_socket_in(run), **values)
    await core.start()
    try:
        yield core
    finally:
        await core.stop()
