"""An agent's tools for what is to come later: ask the operator, be reminded, see what is open, say what it is at."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from hive_agent.client.core_client import CoreClient
from hive_agent.tools import open_text
from hive_agent.tools.output import in_words
from hive_core.protocol import LONGEST_AHEAD, AskRequest, RemindRequest, StatusRequest
from hive_core.protocol.names import shown

QuestionText = Annotated[str, Field(description="The question, with all that is needed to answer it.")]
Options = Annotated[list[str], Field(description="Up to 10 answers to choose from, one line each; may be left out.")]
_MOST_MINUTES = LONGEST_AHEAD / 60
Minutes = Annotated[
    float | None,
    Field(ge=0.1, le=_MOST_MINUTES, description="How long to wait for the answer; left out: for ever."),
]
ReminderText = Annotated[
    str, Field(description="What you will need to know then, up to 4,000 characters: you may have forgotten all else.")
]
At = Annotated[str, Field(description="When: ISO 8601 with a time zone, such as 2026-03-01T09:00:00+00:00.")]
After = Annotated[float | None, Field(ge=0, le=_MOST_MINUTES, description="Or in how many minutes from now.")]
Skip = Annotated[int, Field(ge=0, description="How many of the items to leave out at the beginning.")]
One = Annotated[int | None, Field(ge=1, description="Show the one of this number, and all of its text.")]


def add_asking_tools(server: MCPServer[None], client: CoreClient) -> None:
    """Add the tools to `server`."""
    _add_ask(server, client)
    _add_reminders(server, client)

    @server.tool(structured_output=False)
    async def set_status(
        text: Annotated[str, Field(description="At most 200 characters; empty: nothing.")],
    ) -> str:
        """Say in a few words what you are at. The operator and the other agents see it beside your name."""
        with in_words():
            await client.set_status(StatusRequest(text=" ".join(text.split())))
        return "Shown beside your name." if text.strip() else "Nothing is shown beside your name."

    @server.tool(structured_output=False)
    async def list_open(skip: Skip = 0, question: One = None, reminder: One = None) -> str:
        """List what of yours is open: questions to the operator, reminders to come, proposals under way."""
        with in_words():
            items = await client.open_items()
        if question is not None:
            return _found(open_text.question(items, question), f"No question {question} of yours is open.")
        if reminder is not None:
            return _found(open_text.reminder(items, reminder), f"No reminder {reminder} of yours is to come.")
        return open_text.listing(items, skip)


def _found(text: str | None, otherwise: str) -> str:
    if text is None:
        raise ToolError(f"{otherwise}\nlist_open without a number shows those that are.")
    return text


def _add_ask(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def ask_operator(
        question: QuestionText,
        options: Options = [],  # noqa: B006 - read only
        free_text: Annotated[bool, Field(description="Whether an answer in other words is welcome, too.")] = True,
        wait_minutes: Minutes = None,
    ) -> str:
        """Ask the person who runs the hive. The answer comes later, as a message that starts a turn of yours."""
        with in_words():
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
            f"{late} Do what can be done without it, and end your turn; do not wait for it."
        )


def _add_reminders(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def remind(text: ReminderText, at: At = "", after_minutes: After = None) -> str:
        """Have a message sent to yourself later. It starts a turn of yours, also after a restart of everything."""
        with in_words():
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
        """Give up a reminder that has not come yet."""
        with in_words():
            reminder = await client.cancel_reminder(number)
        return f"Reminder {reminder.id} will not come."


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ToolError(f"at: {shown(text)} is no time; write it as in 2026-03-01T09:00:00+00:00") from None
    if moment.tzinfo is None:
        raise ToolError(f"at: {shown(text)} has no time zone; write it as in 2026-03-01T09:00:00+00:00")
    return moment
