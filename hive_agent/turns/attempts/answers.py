"""The answers of a turn to the operator: the text with which the model ended it, if it has sent nothing itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hive_agent.backends.transcript import Entry, EntrySink, Notice, ToolCall, ToolResult, TranscriptText
from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.infra.json_text import field, truncate
from hive_agent.turns.attempts.tool_calls import hive_tool
from hive_core.protocol import Delivery, SendAnswer, SendRequest
from hive_core.protocol.names import OPERATOR

log = logging.getLogger(__name__)

_LONGEST_ANSWER = 60_000
"""Characters of an answer, which is shorter than the longest body in bytes in every case."""


@dataclass(frozen=True)
class _Unanswered:
    """A message of the operator, with the text that answers it so far."""

    id: int
    text: str = ""


class OwedAnswers:
    """The messages of the operator in one attempt that the model has not answered with a tool.

    A text answers the messages that the model had got before it; later ones, which are added when the model is about to
    end the turn, are answered by a later text.
    """

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self._answered: list[_Unanswered] = []
        """Messages before the last ones, with the text that ended their part of the turn."""
        self._open: list[int] = []
        self._calls: dict[str, ToolCall] = {}
        self._final: list[str] = []
        """Texts since the last call of a tool."""
        self._last = ""
        self.add(deliveries)

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Record that the model gets these messages now: the text before them answers the messages before them."""
        added = [delivery.id for delivery in deliveries if delivery.sender == OPERATOR]
        text = self._text
        self._answered += [_Unanswered(number, text) for number in self._open]
        self._open = added
        self._final, self._last = [], ""

    def record(self, entry: Entry) -> None:
        """Read an entry of the transcript."""
        match entry:
            case TranscriptText() if entry.text.strip():
                self._final.append(entry.text.strip())
            case ToolCall():
                self._last = self._text
                self._final = []
                self._calls[entry.id] = entry
            case ToolResult():
                call = self._calls.pop(entry.id, None)
                if call is not None and not entry.is_error:
                    self._record_sent(hive_tool(call.name), call.input)

    def replay(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Read the calls of earlier attempts from the stored transcript, which the agent can change."""
        for entry in entries:
            number, name = entry.get("id"), entry.get("name")
            if entry.get("kind") == "call" and isinstance(number, str) and isinstance(name, str):
                self._calls[number] = ToolCall(number, name, entry.get("input"))
            elif entry.get("kind") == "result" and isinstance(number, str):
                self.record(ToolResult(number, "", entry.get("is_error") is not False, 0))
        self._calls.clear()

    def owed(self) -> list[tuple[int, str]]:
        """The ids of messages that are to be answered, with the answers."""
        text = self._text
        owed = [*self._answered, *(_Unanswered(number, text) for number in self._open)]
        return [(item.id, item.text) for item in owed if item.text]

    @property
    def _text(self) -> str:
        """The texts since the last call of a tool; if there are none, those before it."""
        return "\n\n".join(self._final) or self._last

    def _record_sent(self, tool: str | None, arguments: object) -> None:
        """Record a message: it answers the message of the operator that it names, or all so far if it names none.

        One to another agent that names none passes the work on, so that the answer comes with a later turn.
        """
        if tool in ("send", "ask_operator"):
            named = field(arguments, "reply_to") if tool == "send" else None
            self._open = [number for number in self._open if named not in (None, number, str(number))]
            self._answered = [item for item in self._answered if named not in (None, item.id, str(item.id))]


async def send_answers(client: CoreClient, owed: Iterable[tuple[int, str]], emit: EntrySink) -> None:
    """Send the answers to the operator, each once: a second one to the same message, of a later attempt, is dropped.

    While the hive has no room for an answer, or the agent has spent its budget, it is sent again and again. A refusal
    for good, such as for an agent that may not send to the operator, goes into the transcript.
    """
    for number, text in owed:
        request = SendRequest(
            to=OPERATOR,
            body=truncate(text, _LONGEST_ANSWER).encode(errors="replace").decode(),
            reply_to=number,
            idempotency_key=f"answer:{number}",
        )
        try:
            sent = await _send(client, request, emit)
        except CoreError as error:
            if not error.refusal:
                raise
            if error.code != "idempotency_conflict":
                log.warning("message %d: its answer was not sent to the operator: %s", number, error)
                emit(Notice("error", f"the answer to message {number} was not sent to the operator: {error.message}"))
            continue
        emit(Notice("info", f"the text above was sent to the operator as message {sent.id}, the answer to {number}"))


_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


async def _send(client: CoreClient, request: SendRequest, emit: EntrySink) -> SendAnswer:
    """Send a message, and wait while the hive refuses it only for now. The leases are renewed meanwhile."""
    pause = _FIRST_PAUSE
    while True:
        try:
            return await client.send(request)
        except CoreError as error:
            if not error.lacks_room:
                raise
            if pause == _FIRST_PAUSE:
                log.warning("message %d: its answer is sent later: %s", request.reply_to or 0, error)
                why = f"the answer to message {request.reply_to} waits until the hive takes it: {error.message}"
                emit(Notice("warning", why))
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
