"""The hive as an agent reaches it: typed calls on core.sock."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from hive_core.names import NAME_PATTERN, shown
from hive_core.protocol import (
    AckRequest,
    AgentStatus,
    Answer,
    Done,
    ErrorAnswer,
    HelloRequest,
    LeaseAnswer,
    LeaseRequest,
    LogsAnswer,
    LogsQuery,
    PeerList,
    Profile,
    ReceiveAnswer,
    ReceiveRequest,
    SendAnswer,
    SendRequest,
    StateRequest,
    WhoAmI,
)

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_KEPT_OPEN_SECONDS = 3_600.0
"""An idle connection costs nothing on a unix socket, but looking after it wakes an idle process."""
_PASSING = frozenset({"unreachable", "stopping", "storage_failed", "database_busy", "disk_full", "too_many_polls"})
_ANSWER_SECONDS = 30.0
"""How long an answer may take beyond the time that the request asks the daemon to wait."""

A = TypeVar("A", bound=Answer)


class CoreError(Exception):
    """The hive refused a call (`status` is the HTTP status), or could not be reached (`status` 0)."""

    def __init__(self, code: str, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the trouble is not the call's: the daemon is away, or its disk is full. Later the same may work."""
        return self.code in _PASSING

    @property
    def refusal(self) -> bool:
        """Whether the hive said no to this call, so that asking the same again is of no use."""
        return 400 <= self.status < 500 and self.code != "superseded" and not self.passing


class CoreClient:
    """Calls on one core.sock. Use as an async context manager.

    `patience`: for how many seconds a call is repeated while the daemon is away or cannot write. Every call
    here may be repeated: leases and states are set, not counted; give a send an idempotency key.
    """

    def __init__(self, socket: Path, patience: float) -> None:
        self._socket = socket
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> CoreClient:
        connector = aiohttp.UnixConnector(path=str(self._socket), keepalive_timeout=_KEPT_OPEN_SECONDS)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def hello(self, request: HelloRequest) -> Profile:
        return await self._post("/v1/harness/hello", request, Profile)

    async def state(self, request: StateRequest) -> None:
        await self._post("/v1/harness/state", request, Done)

    async def receive(self, request: ReceiveRequest) -> ReceiveAnswer:
        return await self._post("/v1/messages/receive", request, ReceiveAnswer, waits=request.wait_seconds)

    async def ack(self, request: AckRequest) -> list[int]:
        return (await self._post("/v1/messages/ack", request, LeaseAnswer)).ids

    async def release(self, request: LeaseRequest) -> list[int]:
        return (await self._post("/v1/messages/release", request, LeaseAnswer)).ids

    async def renew(self, request: LeaseRequest) -> list[int]:
        return (await self._post("/v1/messages/renew", request, LeaseAnswer)).ids

    async def send(self, request: SendRequest) -> SendAnswer:
        return await self._post("/v1/messages", request, SendAnswer)

    async def whoami(self) -> WhoAmI:
        return await self._call("GET", "/v1/whoami", WhoAmI)

    async def peers(self) -> PeerList:
        return await self._call("GET", "/v1/agents", PeerList)

    async def change_agent(self, name: str, action: Literal["start", "stop", "restart"]) -> AgentStatus:
        """The manager's: start, stop or restart another agent."""
        return await self._call("POST", f"/v1/agents/{_checked(name)}/{action}", AgentStatus, waits=120.0)

    async def agent_logs(self, name: str, query: LogsQuery) -> LogsAnswer:
        """The manager's: what another agent's harness logged."""
        path = f"/v1/agents/{_checked(name)}/logs"
        values = {key: str(value) for key, value in query.model_dump(exclude_defaults=True).items()}
        return await self._call("GET", path, LogsAnswer, query=values, waits=query.wait_seconds)

    async def _post(self, path: str, request: BaseModel, answer: type[A], *, waits: float = 0.0) -> A:
        return await self._call("POST", path, answer, body=request.model_dump_json().encode(), waits=waits)

    async def _call(
        self,
        method: str,
        path: str,
        answer: type[A],
        *,
        body: bytes | None = None,
        query: dict[str, str] | None = None,
        waits: float = 0.0,
    ) -> A:
        give_up = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                content = await self._once(method, path, body, query, waits)
                break
            except CoreError as error:
                if not error.passing or time.monotonic() + pause > give_up:
                    raise
                if pause == _FIRST_PAUSE:
                    log.warning("the daemon cannot do this now, trying again: %s", error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        try:
            return answer.model_validate_json(content)
        except ValidationError as error:
            # Its text quotes the answer, which may hold message bodies.
            fields = ", ".join(".".join(map(str, item["loc"])) for item in error.errors(include_input=False))
            raise CoreError("bad_answer", f"the daemon's answer to {path} is not understood (in {fields})") from None

    async def _once(
        self, method: str, path: str, body: bytes | None, query: dict[str, str] | None, waits: float
    ) -> bytes:
        if self._session is None:
            raise RuntimeError("CoreClient is used outside of its `async with` block")
        timeout = aiohttp.ClientTimeout(total=waits + _ANSWER_SECONDS, sock_connect=5.0)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        outgoing = io.BytesIO(body) if body is not None else None  # aiohttp warns of long ones given as bytes
        try:
            async with self._session.request(
                method, f"http://hive{path}", data=outgoing, params=query, headers=headers, timeout=timeout
            ) as response:
                content = await response.read()
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            hint = "is hive-c0re running?"
            raise CoreError("unreachable", f"no answer on {self._socket}: {reason}", hint) from None
        if response.status < 400:
            return content
        try:
            refused = ErrorAnswer.model_validate_json(content).error
        except ValidationError:
            raise CoreError("bad_answer", f"HTTP {response.status} on {path}", status=response.status) from None
        raise CoreError(refused.code, refused.message, refused.hint, response.status)


def _checked(name: str) -> str:
    """`name`, if it is safe in a path; refused here, as a URL would turn `..` into another route."""
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise CoreError("bad_name", f"{shown(name)} is no agent's name", "see list_agents for the names", 400)
    return name
