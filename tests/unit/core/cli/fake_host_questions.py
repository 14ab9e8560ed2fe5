"""The fake's part that is questions, reminders and pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aiohttp import web

from hive_core.protocol import (
    AnswerRequest,
    PageTicket,
    Question,
    QuestionList,
    QuestionsQuery,
    Reminder,
    ReminderList,
    RemindersQuery,
)
from tests.unit.core.cli.fake_host_gate import Wire
from tests.unit.core.cli.fake_host_http import answered


def question(number: int = 17, **changes: object) -> Question:
    """An open question of ada's, two minutes old, with `changes`."""
    fields: dict[str, object] = {
        "id": number, "agent": "ada", "text": "Which colour?", "options": [], "free_text": True,
        "asked_at": datetime.now(UTC) - timedelta(minutes=2, seconds=5), "expires_at": None, "state": "open",
        "answer": None, "answered_by": None, "ended_at": None,
    }  # fmt: skip
    return Question.model_validate(fields | changes)


def reminder(number: int, agent: str, text: str) -> Reminder:
    """A reminder for a fixed time."""
    at = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    return Reminder(id=number, agent=agent, at=at, text=text, created_at=at - timedelta(days=1))


class FakeHostQuestions:
    """Tests set the public fields."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.questions: list[Question] = []
        self.reminders: list[Reminder] = []
        self.more = 0
        """How many there are beside those listed."""
        self.ticket = PageTicket(
            ticket="t1cket", port=8123, held=True, sealed=False, socket="/run/x/bob.sock", expires_in=120.0
        )

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/questions", self._questions),
            web.post("/v1/questions/{id}/answer", self._answer),
            web.get("/v1/reminders", self._reminders),
            web.post("/v1/agents/{name}/page-tickets", self._ticket),
        ]

    async def _questions(self, request: web.Request) -> web.Response:
        self._wire.query(request, QuestionsQuery)
        return answered(QuestionList(questions=self.questions, total=len(self.questions) + self.more))

    async def _answer(self, request: web.Request) -> web.Response:
        await self._wire.body(request, AnswerRequest)
        return answered(
            question(int(request.match_info["id"]), state="answered", answer="x", answered_by="operator:me")
        )

    async def _reminders(self, request: web.Request) -> web.Response:
        self._wire.query(request, RemindersQuery)
        return answered(ReminderList(reminders=self.reminders, total=len(self.reminders) + self.more))

    async def _ticket(self, request: web.Request) -> web.Response:
        self._wire.noted(request)
        return answered(self.ticket)
