"""Questions, reminders and proposals that are open, as a model reads them."""

from __future__ import annotations

from hive_agent import proposal_text
from hive_core.protocol import OpenItems, Question, Reminder

_SHOWN = 200


def listing(items: OpenItems) -> str:
    """One paragraph per kind, one line per item."""
    parts = [
        _part("Questions to the operator", [_question(question) for question in items.questions]),
        _part("Reminders to come", [_reminder(reminder) for reminder in items.reminders]),
        _part("Proposals under way", [proposal_text.line(proposal) for proposal in items.proposals]),
    ]
    return "\n\n".join(filter(None, parts)) or "Nothing is open."


def _part(head: str, lines: list[str]) -> str:
    return "\n".join([f"{head} ({len(lines)}):", *lines]) if lines else ""


def _question(question: Question) -> str:
    end = f", ends {question.expires_at:%Y-%m-%d %H:%M:%S} UTC" if question.expires_at is not None else ""
    options = f" [{'; '.join(question.options)}]" if question.options else ""
    return f"{question.id}, asked {question.asked_at:%Y-%m-%d %H:%M:%S} UTC{end}: {_short(question.text + options)}"


def _reminder(reminder: Reminder) -> str:
    return f"{reminder.id}, at {reminder.at:%Y-%m-%d %H:%M:%S} UTC: {_short(reminder.text)}"


def _short(text: str) -> str:
    line = " ".join(proposal_text.visible(text).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}... ({len(text)} characters)"
