"""The tools `ask_operator`, `remind`, `set_status` and `list_open`."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from hive_agent.client.core_client import CoreClient
from hive_agent.tools import proposals
from hive_agent.tools.output import LONGEST_OUTPUT, as_tool_errors
from hive_core.protocol import LONGEST_AHEAD, AskRequest, OpenItems, Question, Reminder, RemindRequest, StatusRequest
from hive_core.text import Quoted, escape_unprintable, shown, visible

QuestionText = Annotated[str, Field(description="The question, with everything that is needed to answer it.")]
Options = Annotated[list[str], Field(description="Up to 10 answers to choose from, one line each; may be left out.")]
_MOST_MINUTES = LONGEST_AHEAD / 60
Minutes = Annotated[
    float | None,
    Field(ge=0.1, le=_MOST_MINUTES, description="Time limit for the answer in minutes; left out: none."),
]
ReminderText = Annotated[str, Field(description="Everything that you will need to know then, up to 4,000 characters.")]
At = Annotated[str, Field(description="When: ISO 8601 with a time zone, such as 2026-03-01T09:00:00+00:00.")]
After = Annotated[float | None, Field(ge=0, le=_MOST_MINUTES, description="Or in how many minutes from now.")]
Skip = Annotated[int, Field(ge=0, description="Number of items to skip at the beginning.")]
One = Annotated[int | None, Field(ge=1, description="Show only the item with this number, with its whole text.")]


def add_asking_tools(server: MCPServer[None], client: CoreClient) -> None:
    """Add the tools about questions, reminders and the status to `server`."""
    _add_ask(server, client)
    _add_reminders(server, client)

    @server.tool(structured_output=False)
    async def set_status(
        text: Annotated[str, Field(description="At most 200 characters; empty: nothing.")],
    ) -> str:
        """Set a short status about your current work. The operator and the other agents see it beside your name."""
        with as_tool_errors():
            await client.set_status(StatusRequest(text=" ".join(text.split())))
        return "Shown beside your name." if text.strip() else "Nothing is shown beside your name."

    @server.tool(structured_output=False)
    async def list_open(skip: Skip = 0, question: One = None, reminder: One = None) -> str:
        """List your open items: questions to the operator, reminders, and proposals in progress."""
        with as_tool_errors():
            items = await client.open_items()
        if question is not None:
            return _found(find_question_text(items, question), f"No question {question} of yours is open.")
        if reminder is not None:
            return _found(find_reminder_text(items, reminder), f"No reminder {reminder} of yours is pending.")
        return open_items_text(items, skip)


def _found(text: str | None, otherwise: str) -> str:
    if text is None:
        raise ToolError(f"{otherwise}\nlist_open without a number shows those that are.")
    return text


def _add_ask(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def ask_operator(
        question: QuestionText,
        options: Options = [],  # noqa: B006 - read only
        free_text: Annotated[bool, Field(description="Whether the operator may also answer with free text.")] = True,
        wait_minutes: Minutes = None,
    ) -> str:
        """Ask the operator, the person who runs the hive. The answer comes later, as a message that starts a turn."""
        with as_tool_errors():
            request = AskRequest(
                text=question,
                options=options,
                free_text=free_text,
                expires_in=None if wait_minutes is None else wait_minutes * 60,
                idempotency_key=f"tool:{uuid.uuid4()}",
            )
            asked = await client.ask(request)
        late = ""
        if asked.expires_at is not None:
            late = f" If there is none by {asked.expires_at:%Y-%m-%d %H:%M:%S} UTC, a message from `system` says so."
        return (
            f"Asked as question {asked.id}. The answer comes as a message from `operator`, a reply to {asked.id}."
            f"{late} Do the work that does not need it, then end your turn; do not wait for it."
        )


def _add_reminders(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def remind(text: ReminderText, at: At = "", after_minutes: After = None) -> str:
        """Have a message sent to yourself later. It starts a turn, also after a restart of the agent or the hive."""
        with as_tool_errors():
            moment = _moment(at) if at else None
            request = RemindRequest(
                text=text,
                at=moment,
                after=None if after_minutes is None else after_minutes * 60,
                idempotency_key=f"tool:{uuid.uuid4()}",
            )
            reminder = await client.remind(request)
        return f"Reminder {reminder.id} comes at {reminder.at:%Y-%m-%d %H:%M:%S} UTC."

    @server.tool(structured_output=False)
    async def cancel_reminder(number: Annotated[int, Field(ge=1, description="Its number; see list_open.")]) -> str:
        """Cancel a reminder that has not come yet."""
        with as_tool_errors():
            reminder = await client.cancel_reminder(number)
        return f"Reminder {reminder.id} will not come."


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ToolError(f"at: {shown(text)} is not a time; write it as in 2026-03-01T09:00:00+00:00") from None
    if moment.tzinfo is None:
        raise ToolError(f"at: {shown(text)} has no time zone; write it as in 2026-03-01T09:00:00+00:00")
    return moment


_SHOWN = 200
_LINES_CHARACTERS = LONGEST_OUTPUT - 500
"""Most characters of the lines, without the headings and the last line."""


def open_items_text(items: OpenItems, skip: int = 0) -> str:
    """One paragraph per kind and one line per item, without the first `skip`, truncated to the length of a result."""
    kinds = {
        f"Questions to the operator ({len(items.questions)}):": [_question_line(item) for item in items.questions],
        f"Pending reminders ({len(items.reminders)}):": [_reminder_line(item) for item in items.reminders],
        f"Proposals in progress ({len(items.proposals)}):": [proposals.proposal_line(item) for item in items.proposals],
    }
    lines = [(head, line) for head, found in kinds.items() for line in found]
    if not lines:
        return "Nothing is open."
    shown: dict[str, list[str]] = {}
    end, size = skip, 0
    for head, line in lines[skip:]:
        size += len(line) + 1
        if size > _LINES_CHARACTERS:
            break
        shown.setdefault(head, []).append(line)
        end += 1
    parts = ["\n".join([head, *found]) for head, found in shown.items()]
    if len(lines) > end - skip:
        rest = f"; for more: skip={end}" if end < len(lines) else ""
        parts.append(f"[{max(0, end - skip)} of {len(lines)} are shown{rest}]")
    return "\n\n".join(parts)


def find_question_text(items: OpenItems, number: int) -> str | None:
    """The open question with that number in full; None if there is none."""
    found = next((item for item in items.questions if item.id == number), None)
    if found is None:
        return None
    options = "\n".join(f"> {index}. {visible(option)}" for index, option in enumerate(found.options, start=1))
    return "\n\n".join(filter(None, [f"Question {_asked(found)}:", Quoted(found.text).block(LONGEST_OUTPUT), options]))


def find_reminder_text(items: OpenItems, number: int) -> str | None:
    """The pending reminder with that number in full; None if there is none."""
    found = next((item for item in items.reminders if item.id == number), None)
    return None if found is None else f"Reminder {_due(found)}:\n\n{Quoted(found.text).block(LONGEST_OUTPUT)}"


def _question_line(item: Question) -> str:
    options = f" [{'; '.join(item.options)}]" if item.options else ""
    return f"{_asked(item)}:\n> {_short(item.text + options)}"


def _reminder_line(item: Reminder) -> str:
    return f"{_due(item)}:\n> {_short(item.text)}"


def _asked(item: Question) -> str:
    end = f", ends {item.expires_at:%Y-%m-%d %H:%M:%S} UTC" if item.expires_at is not None else ""
    return f"{item.id}, asked {item.asked_at:%Y-%m-%d %H:%M:%S} UTC{end}"


def _due(item: Reminder) -> str:
    return f"{item.id}, at {item.at:%Y-%m-%d %H:%M:%S} UTC"


def _short(text: str) -> str:
    line = " ".join(escape_unprintable(text).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}... ({len(text)} characters)"
