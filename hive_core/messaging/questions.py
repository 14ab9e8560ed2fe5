"""Questions to the operator, and the messages that go with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from hive_core.errors import HiveError, bad_request, conflict, not_found
from hive_core.infra.concurrency.tasks import KeyedLocks
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database, steady_milliseconds
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import question_store as store
from hive_core.messaging.broker import Broker
from hive_core.messaging.directory import Directory
from hive_core.messaging.question_store import QuestionRow, check_exists, format_time
from hive_core.messaging.sending import OutgoingMessage
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import MAX_BODY_BYTES, AnswerRequest, AskRequest, Question, QuestionList, QuestionsQuery
from hive_core.protocol.names import OPERATOR, SYSTEM
from hive_core.text import Quoted

MOST_OPEN = 20
"""Open questions of one agent."""
_SHOWN = 2_000
_SHOWN_OPTION = 200


class Questions:
    """The agents' questions to the operator. Each ends once: it is answered, or it expires."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        directory: Directory,
        events: EventHub,
        clock: Callable[[], int] = steady_milliseconds,
    ) -> None:
        """`clock` gives the time in milliseconds, and never goes back: questions have time limits."""
        self.changed: Callable[[], None] = lambda: None
        """Called when a question was asked that can expire."""
        self._database = database
        self._broker = broker
        self._directory = directory
        self._events = events
        self._clock = clock
        self._keys = KeyedLocks()

    async def ask(self, agent: str, request: AskRequest) -> Question:
        """Ask the operator a question, which is sent as a message.

        Raises `recipient_not_allowed`, `too_many_questions`, `inbox_full`, `too_many_waiting`, `database_full`,
        `sending_too_fast`, `invalid_request` where nothing could be answered, `idempotency_conflict` when the key was
        used for another question, and `unknown_agent` if the agent is destroyed meanwhile.
        """
        self._directory.recipients(agent, OPERATOR)
        if not (request.free_text or request.options):
            raise bad_request("a question without options has to take free text", "give options, or allow free_text")
        key = request.idempotency_key
        if key is None:
            return await self._ask(agent, request)
        async with self._keys.hold((agent, key)):
            earlier = await self._database.read(lambda db: store.find_question_by_key(db, agent, key))
            if earlier is None:
                return await self._ask(agent, request)
            if not _same(earlier, request):
                raise conflict(
                    "idempotency_conflict",
                    f"the key was used for another question, number {earlier.id}",
                    "use a new key for a new question",
                )
            return earlier.to_protocol()

    async def answer(self, number: int, request: AnswerRequest, by: str, agent: str | None = None) -> Question:
        """Answer an open question; `by` is who answers, `agent` whose question it has to be (None: anybody's).

        The agent gets a message from the operator. The same answer once more changes nothing. Raises
        `unknown_question`, `no_such_option`, `question_ended`, `inbox_full`, and `unknown_recipient` if the agent is
        gone; with `agent` also `database_full` and `sending_too_fast`, as its page types.
        """
        row = await self._database.read(lambda db: store.find_question(db, number))
        if row is None or agent not in (None, row.agent):
            raise unknown_question(number)
        answer = _chosen(row, request)
        if row.state == "answered" and row.answer == answer:
            return row.to_protocol()
        if row.state != "open":
            raise _ended(row)
        now = self._clock()

        def within(db: sqlite3.Connection, _: int) -> QuestionRow:
            if not store.end_question(db, number, "answered", now, answer, by):
                raise _ended(row)
            audit.append(db, actor=by, action="answer", subject=row.agent, detail={"question": number})
            return row._replace(state="answered", answer=answer, answered_by=by, ended_at=now)

        message = OutgoingMessage(
            OPERATOR, row.agent, lambda _: answer_message(row, answer), reply_to=number, typed=agent is not None
        )
        answered = await self._broker.deliver(message, within, read=number)
        self._tell(answered, by, answer)
        return answered.to_protocol()

    async def expire(self, row: QuestionRow) -> None:
        """The time of a question is up: the agent gets a message, unless it was answered meanwhile.

        Raises `inbox_full`, and `unknown_recipient` if the agent is gone.
        """
        now = self._clock()
        message = OutgoingMessage(SYSTEM, row.agent, lambda _: expiry_message(row), reply_to=row.id)

        def within(db: sqlite3.Connection, _: int) -> None:
            if not store.end_question(db, row.id, "expired", now):
                raise _ended(row)

        try:
            await self._broker.deliver(message, within)
        except HiveError as error:
            if error.code != "question_ended":
                raise
            return
        self._tell(row._replace(state="expired"), SYSTEM, row.text)

    async def listing(self, query: QuestionsQuery, sees: Sight = EVERYTHING) -> QuestionList:
        """Questions, the oldest first."""
        rows, total = await self._database.read(lambda db: store.select_questions(db, query, sees))
        return QuestionList(questions=[row.to_protocol() for row in rows], total=total)

    async def open_of(self, agent: str) -> list[Question]:
        """The agent's open questions, the oldest first."""
        return [row.to_protocol() for row in await self._database.read(lambda db: store.open_questions_of(db, agent))]

    async def _ask(self, agent: str, request: AskRequest) -> Question:
        now = self._clock()
        expires_at = _end(request, now)
        options, key = tuple(request.options), request.idempotency_key

        def row(number: int) -> QuestionRow:
            return QuestionRow(number, agent, request.text, options, request.free_text, key, now, expires_at)

        def within(db: sqlite3.Connection, number: int) -> QuestionRow:
            check_exists(db, agent)
            if len(store.open_questions_of(db, agent)) >= MOST_OPEN:
                raise HiveError(
                    "too_many_questions",
                    f"{MOST_OPEN} questions of {agent} are open already",
                    hint="wait for their answers, or go on without",
                    status=429,
                )
            store.insert_question(db, row(number))
            return row(number)

        # Also an agent whose share of the operator's inbox is full can ask what to do.
        message = OutgoingMessage(agent, OPERATOR, lambda number: question_message(row(number)), beside=MOST_OPEN)
        asked = await self._broker.deliver(message, within)
        self._tell(asked, agent, asked.text)
        if expires_at is not None:
            self.changed()
        return asked.to_protocol()

    def _tell(self, row: QuestionRow, by: str, text: str) -> None:
        data = {"agent": row.agent, "id": row.id, "state": row.state, "by": by, "text": text[:_SHOWN]}
        self._events.publish("question.changed", data)


def unknown_question(number: int) -> HiveError:
    """Return the error for a question that does not exist, or of which the caller may not know."""
    return not_found("unknown_question", f"there is no question {number}", "hive-c0re questions lists them")


def _end(request: AskRequest, asked_at: int) -> int | None:
    return None if request.expires_in is None else asked_at + int(request.expires_in * 1_000)


def _same(row: QuestionRow, request: AskRequest) -> bool:
    """Return True if the request asks the same question."""
    asked = (request.text, tuple(request.options), request.free_text, _end(request, row.asked_at))
    return asked == (row.text, row.options, row.free_text, row.expires_at)


def _chosen(row: QuestionRow, request: AnswerRequest) -> str:
    if (request.text is None) == (request.option is None):
        raise bad_request("an answer is a text or the number of an option", "give one of text and option")
    if request.option is not None:
        if request.option > len(row.options):
            raise _no_such_option(row, f"question {row.id} has {len(row.options)} options")
        return row.options[request.option - 1]
    if not row.free_text and request.text not in row.options:
        raise _no_such_option(row, f"question {row.id} takes one of its options only")
    return request.text or ""


def _no_such_option(row: QuestionRow, message: str) -> HiveError:
    options = "; ".join(
        f"{number}. {Quoted(option).line(_SHOWN_OPTION)}" for number, option in enumerate(row.options, start=1)
    )
    return HiveError("no_such_option", message, hint=f"choose one: {options}"[:_SHOWN] if options else "give a text")


def _ended(row: QuestionRow) -> HiveError:
    how = f"was answered by {row.answered_by}" if row.state == "answered" else "has ended"
    return conflict("question_ended", f"question {row.id} {how} already", "send a message instead: hive-c0re send")


_QUOTED = 2_000
_QUOTED_OPTION = 1_000


def question_message(row: QuestionRow) -> str:
    """Return the message to the operator that asks a question and says how to answer it."""
    by_text = f"hive-c0re answer {row.id} TEXT"
    by_option = f"hive-c0re answer {row.id} --option N"
    how = by_text if not row.options else f"{by_option}, or {by_text}" if row.free_text else by_option
    until = f"; it ends at {format_time(row.expires_at)}" if row.expires_at is not None else ""
    options = "\n".join(
        f"{number}. {Quoted(option).line(_QUOTED_OPTION)}" for number, option in enumerate(row.options, start=1)
    )
    parts = [
        f"{row.agent} asks you (answer with: {how}{until}):",
        Quoted(row.text).block(MAX_BODY_BYTES),
        f"Its options:\n{options}" if options else "",
    ]
    return "\n\n".join(filter(None, parts))


def answer_message(row: QuestionRow, answer: str) -> str:
    """Return the message to the agent with the operator's answer."""
    return f"Answer to your question {row.id}, which was:\n{Quoted(row.text).block(_QUOTED)}\n\n{answer}"


def expiry_message(row: QuestionRow) -> str:
    """Return the message to the agent that its question has expired."""
    return (
        f"Nobody answered your question {row.id} in time. Go on without an answer as well as you can, or ask again.\n\n"
        f"You had asked:\n{Quoted(row.text).block(_QUOTED)}"
    )
