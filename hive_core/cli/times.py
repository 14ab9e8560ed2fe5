"""Points in time, as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime

_STEPS = ((60, 1, "s"), (3_600, 60, "min"), (86_400, 3_600, "h"))


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


def duration(since: object, until: datetime) -> str:
    """How long ago the ISO time `since` was ("3 min"); empty if it is none. The future counts as this moment."""
    if not isinstance(since, str):
        return ""
    try:
        then = datetime.fromisoformat(since)
    except ValueError:
        return ""
    seconds = max(0, int((until - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()))
    for limit, unit, word in _STEPS:
        if seconds < limit:
            return f"{seconds // unit} {word}"
    days = seconds // 86_400
    return f"{days} day" if days == 1 else f"{days} days"


def ago(since: object, until: datetime) -> str:
    """As `duration`, with "ago"; empty if `since` is no time."""
    text = duration(since, until)
    if not text:
        return ""
    return "just now" if text == "0 s" else f"{text} ago"


def clock(at: object) -> str:
    """The ISO time `at` as hours, minutes and seconds where the operator is."""
    try:
        return datetime.fromisoformat(str(at)).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return "--:--:--"


def moment(at: object) -> str:
    """The ISO time `at` as date and time where the operator is."""
    try:
        return datetime.fromisoformat(str(at)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return ""
