"""HTTP calls on core.sock, which are repeated while the daemon is down."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, ValidationError

from hive_agent.client.http import HttpClient, HttpFailure
from hive_core.protocol import Answer, ErrorAnswer

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_PASSING = frozenset({"unreachable", "stopping", "storage_failed", "database_busy", "disk_full", "too_many_polls"})
_LACKS_ROOM = frozenset({"database_full", "disk_full"})
_ANSWER_SECONDS = 30.0
"""Time limit of an answer, in addition to the time that the request asks the daemon to wait."""

NO_ANSWER = "The hive did not carry this out"
"""Beginning of the error of a tool whose call was repeated in vain while the daemon was down or could not write."""

A = TypeVar("A", bound=Answer)


class CoreError(Exception):
    """The daemon refused a call (`status` is the HTTP status), or could not be reached (`status` 0)."""

    def __init__(self, code: str, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status

    @property
    def passing(self) -> bool:
        """True if the error is temporary, such as a daemon that is down or a full disk, so that a retry may succeed."""
        return self.code in _PASSING

    @property
    def lacks_room(self) -> bool:
        """True if the message that was sent fits later: into a budget, an inbox, the database or the disk."""
        return self.code in _LACKS_ROOM or self.status == 429

    @property
    def refusal(self) -> bool:
        """True if the daemon refused this call, so that a retry is useless."""
        return 400 <= self.status < 500 and self.code != "superseded" and not self.passing


class LivenessConnection:
    """A connection without requests, which breaks when the daemon exits."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def wait_broken(self) -> None:
        """Wait until the connection breaks."""
        try:
            await self._reader.read(1)
        except OSError:
            pass
        finally:
            self.close()

    def close(self) -> None:
        self._writer.close()


class CoreConnection:
    """Calls on one core.sock. Use as an async context manager.

    `patience` is the time in seconds for which a call is repeated while the daemon is down or cannot write. So it must
    be safe to repeat any call.
    """

    def __init__(self, socket: Path, patience: float) -> None:
        self._socket = socket
        self._patience = patience
        self._client: HttpClient | None = None

    async def __aenter__(self) -> Self:
        self._client = HttpClient(self._socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()

    async def open_liveness_connection(self) -> LivenessConnection:
        """Connect to the daemon to notice its exit. While it is down, this waits like every call."""
        give_up = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return LivenessConnection(*await asyncio.open_unix_connection(str(self._socket)))
            except OSError as error:
                if time.monotonic() + pause > give_up:
                    raise _unreachable(self._socket, error) from None
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def post(self, path: str, request: BaseModel, answer: type[A], *, waits: float = 0.0) -> A:
        return await self.call("POST", path, answer, body=request.model_dump_json().encode(), waits=waits)

    async def call(
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
            raise CoreError("bad_answer", f"the daemon's answer to {path} is not valid (in {fields})") from None

    async def _once(
        self, method: str, path: str, body: bytes | None, query: dict[str, str] | None, waits: float
    ) -> bytes:
        if self._client is None:
            raise RuntimeError("a connection is used outside of its `async with` block")
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            async with asyncio.timeout(waits + _ANSWER_SECONDS):
                status, content = await self._client.request(method, target, body)
        except (HttpFailure, TimeoutError) as error:
            raise _unreachable(self._socket, error) from None
        if status < 400:
            return content
        try:
            refused = ErrorAnswer.model_validate_json(content).error
        except ValidationError:
            raise CoreError("bad_answer", f"HTTP {status} on {path}", status=status) from None
        raise CoreError(refused.code, refused.message, refused.hint, status)


def _unreachable(socket: Path, error: Exception) -> CoreError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return CoreError("unreachable", f"no answer on {socket}: {reason}", "is hive-c0re running?")
