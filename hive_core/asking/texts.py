"""What the messages about questions and reminders say, the line to act on first."""

from __future__ import annotations

from hive_core.asking.reminder_store import ReminderRow
from hive_core.database.moments import moment
from hive_core.messaging.question_store import QuestionRow

_QUOTED = 200


def asked(row: QuestionRow) -> str:
    """To the operator: there is a question, and how to answer it."""
    by_text = f"hive-c0re answer {row.id} TEXT"
    by_option = f"hive-c0re answer {row.id} --option N"
    how = by_text if not row.options else f"{by_option}, or {by_text}" if row.free_text else by_option
    until = f"; it ends at {_time(row.expires_at)}" if row.expires_at is not None else ""
    options = "\n".join(f"{number}. {option}" for number, option in enumerate(row.options, start=1))
    parts = [f"{row.agent} asks you (answer with: {how}{until}):", row.text, options]
    return "\n\n".join(filter(None, parts))


def answered(row: QuestionRow, answer: str) -> str:
    """To the agent, from the operator."""
    return f"Answer to your question {row.id} ({_quoted(row.text)}):\n\n{answer}"


def expired(row: QuestionRow) -> str:
    """To the agent: nobody has answered."""
    return (
        f"Nobody answered your question {row.id} in time ({_quoted(row.text)}). Go on without an answer as well as you "
        "can, or ask again."
    )


def reminder(row: ReminderRow) -> str:
    """To the agent, from itself."""
    head = f"Reminder {row.id}, which you set at {_time(row.created_at)} for {_time(row.due_at)}:"
    return f"{head}\n\n{row.text}"


def _time(at: int) -> str:
    return moment(at).strftime("%Y-%m-%d %H:%M:%S UTC")


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= _QUOTED else f'"{line[:_QUOTED]}..."'
