"""Endpoints for questions and reminders."""

from __future__ import annotations

from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.params import number_of, principal_of
from hive_core.api.rules import EndpointRule
from hive_core.gate.gate import Gate
from hive_core.messaging import Questions, Reminders
from hive_core.protocol import (
    AnswerRequest,
    AskRequest,
    OpenItems,
    ProposalsQuery,
    Question,
    QuestionList,
    QuestionsQuery,
    Reminder,
    ReminderList,
    RemindersQuery,
    RemindRequest,
)

_QUESTIONS, _REMINDERS = "/v1/questions", "/v1/reminders"
_SHOWN_PROPOSALS = 100
_LISTING = EndpointRule("viewer", "listing")


def agent_questions(questions: Questions, reminders: Reminders, gate: Gate) -> list[Endpoint]:
    """Return the endpoints with which an agent asks, sets reminders, and lists its open items."""

    async def ask(call: ApiCall) -> Question:
        return await questions.ask(call.caller.name, call.read(AskRequest))

    async def remind(call: ApiCall) -> Reminder:
        return await reminders.remind(call.caller.name, call.read(RemindRequest))

    async def cancel(call: ApiCall) -> Reminder:
        return await reminders.cancel(call.caller.name, number_of(call))

    async def open_items(call: ApiCall) -> OpenItems:
        name = call.caller.name
        open_proposals = ProposalsQuery(agent=name, state="open", limit=_SHOWN_PROPOSALS)
        return OpenItems(
            questions=await questions.open_of(name),
            reminders=await reminders.waiting_of(name),
            proposals=(await gate.queries.proposals(open_proposals, principal_of(call.caller))).proposals,
        )

    cancelling = f"{_REMINDERS}/{{id}}/cancel"
    return [
        Endpoint("POST", _QUESTIONS, "Ask the operator", ask, Question, body=AskRequest),
        Endpoint("POST", _REMINDERS, "Set a reminder", remind, Reminder, body=RemindRequest),
        Endpoint("POST", cancelling, "Cancel a reminder", cancel, Reminder),
        Endpoint("GET", "/v1/open", "The agent's open questions, reminders and proposals", open_items, OpenItems),
    ]


def operator_answers(questions: Questions, reminders: Reminders) -> list[Endpoint]:
    """Return the operator's endpoints to list and answer questions, and to list reminders."""

    async def listing(call: ApiCall) -> QuestionList:
        return await questions.listing(call.read(QuestionsQuery), call.caller.sees)

    async def answer(call: ApiCall) -> Question:
        return await questions.answer(number_of(call), call.read(AnswerRequest), call.caller.actor)

    async def to_come(call: ApiCall) -> ReminderList:
        return await reminders.listing(call.read(RemindersQuery), call.caller.sees)

    return [
        Endpoint(
            "GET", _QUESTIONS, "Questions to the operator", listing, QuestionList, query=QuestionsQuery, rule=_LISTING
        ),
        Endpoint(
            "POST",
            f"{_QUESTIONS}/{{id}}/answer",
            "Answer a question",
            answer,
            Question,
            body=AnswerRequest,
            rule=EndpointRule("operator", "question"),
        ),
        Endpoint(
            "GET",
            _REMINDERS,
            "Reminders that are still to come",
            to_come,
            ReminderList,
            query=RemindersQuery,
            rule=_LISTING,
        ),
    ]
