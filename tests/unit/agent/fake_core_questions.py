"""The fake's part that is questions, reminders, status, one's own log and waking: every request is noted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from hive_core.protocol import (
    AskRequest,
    Done,
    LogsAnswer,
    OpenItems,
    Question,
    Reminder,
    RemindRequest,
    SendAnswer,
    StatusRequest,
    WakeRequest,
)

Handler = Callable[[web.Request], Awaitable[Any]]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def question(number: int, text: str, **more: Any) -> Question:
    """An open question of alice's."""
    fields: dict[str, Any] = {
        "options": [], "free_text": True, "asked_at": NOW, "expires_at": None,
        "state": "open", "answer": None, "answered_by": None, "ended_at": None,
    }  # fmt: skip
    return Question.model_validate({"id": number, "agent": "alice", "text": text, **fields, **more})


def reminder(number: int, text: str, at: datetime = NOW) -> Reminder:
    """A reminder of alice's."""
    return Reminder(id=number, agent="alice", at=at, text=text, created_at=NOW)


@dataclass
class FakeCoreQuestions:
    """`asked` are the requests; `open` and `lines` what is answered from."""

    asked: list[BaseModel] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    open: OpenItems = field(default_factory=lambda: OpenItems(questions=[], reminders=[], proposals=[]))
    lines: list[str] = field(default_factory=list)

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "/v1/questions", self._ask),
            ("POST", "/v1/reminders", self._remind),
            ("POST", "/v1/reminders/{id}/cancel", self._cancel),
            ("POST", "/v1/harness/status", self._status),
            ("GET", "/v1/open", self._open),
            ("GET", "/v1/logs", self._logs),
            ("POST", "/v1/wake", self._wake),
        ]

    async def _ask(self, request: web.Request) -> Question:
        asked = AskRequest.model_validate_json(await request.read())
        self.asked.append(asked)
        end = None if asked.expires_in is None else NOW + timedelta(seconds=asked.expires_in)
        return question(17, asked.text, options=asked.options, expires_at=end)

    async def _remind(self, request: web.Request) -> Reminder:
        wanted = RemindRequest.model_validate_json(await request.read())
        self.asked.append(wanted)
        at = wanted.at.astimezone(UTC) if wanted.at is not None else NOW + timedelta(seconds=wanted.after or 0)
        return reminder(4, wanted.text, at)

    async def _cancel(self, request: web.Request) -> Reminder:
        self.cancelled.append(int(request.match_info["id"]))
        return reminder(self.cancelled[-1], "x")

    async def _status(self, request: web.Request) -> Done:
        self.asked.append(StatusRequest.model_validate_json(await request.read()))
        return Done()

    async def _open(self, _request: web.Request) -> OpenItems:
        return self.open

    async def _logs(self, request: web.Request) -> LogsAnswer:
        return LogsAnswer(lines=self.lines[-int(request.query.get("lines", "100")) :], cursor="")

    async def _wake(self, request: web.Request) -> SendAnswer:
        self.asked.append(WakeRequest.model_validate_json(await request.read()))
        return SendAnswer(id=5, recipients=["alice"])
