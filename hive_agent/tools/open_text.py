"""Questions, reminders and proposals that are open, as a model reads them. No I/O."""

from __future__ import annotations

from hive_agent.tools import proposal_text
from hive_agent.tools.output import LONGEST_OUTPUT
from hive_core.protocol import OpenItems, Question, Reminder

_SHOWN = 200
_ROOM = LONGEST_OUTPUT - 500
"""What is left for lines, beside the headings and the last line."""


def listing(items: OpenItems, skip: int = 0) -> str:
    """One paragraph per kind, one line per item, but for the first `skip`; of those as many as a tool may answer."""
    kinds = {
        f"Questions to the operator ({len(items.questions)}):": [_question_line(item) for item in items.questions],
        f"Reminders to come ({len(items.reminders)}):": [_reminder_line(item) for item in items.reminders],
        f"Proposals under way ({len(items.proposals)}):": [proposal_text.line(item) for item in items.proposals],
    }
    lines = [(head, line) for head, found in kinds.items() for line in found]
    if not lines:
        return "Nothing is open."
    shown: dict[str, list[str]] = {}
    end, size = skip, 0
    for head, line in lines[skip:]:
        size += len(line) + 1
        if size > _ROOM:
            break
        shown.setdefault(head, []).append(line)
        end += 1
    parts = ["\n".join([head, *found]) for head, found in shown.items()]
    if len(lines) > end - skip:
        rest = f"; for more: skip={end}" if end < len(lines) else ""
        parts.append(f"[{max(0, end - skip)} of {len(lines)} are shown{rest}]")
    return "\n\n".join(parts)


def question(items: OpenItems, number: int) -> str | None:
    """One open question in full; None if there is none of that number."""
    found = next((item for item in items.questions if item.id == number), None)
    if found is None:
        return None
    options = "\n".join(f"{place}. {option}" for place, option in enumerate(found.options, start=1))
    return "\n\n".join(filter(None, [f"Question {_asked(found)}:", found.text, options]))


def reminder(items: OpenItems, number: int) -> str | None:
    """One reminder to come in full; None if there is none of that number."""
    found = next((item for item in items.reminders if item.id == number), None)
    return None if found is None else f"Reminder {_due(found)}:\n\n{found.text}"


def _question_line(item: Question) -> str:
    options = f" [{'; '.join(item.options)}]" if item.options else ""
    return f"{_asked(item)}: {_short(item.text + options)}"


def _reminder_line(item: Reminder) -> str:
    return f"{_due(item)}: {_short(item.text)}"


def _asked(item: Question) -> str:
    end = f", ends {item.expires_at:%Y-%m-%d %H:%M:%S} UTC" if item.expires_at is not None else ""
    return f"{item.id}, asked {item.asked_at:%Y-%m-%d %H:%M:%S} UTC{end}"


def _due(item: Reminder) -> str:
    return f"{item.id}, at {item.at:%Y-%m-%d %H:%M:%S} UTC"


def _short(text: str) -> str:
    line = " ".join(proposal_text.visible(text).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}... ({len(text)} characters)"
