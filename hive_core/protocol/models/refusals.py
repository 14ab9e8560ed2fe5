"""The texts of refusals by the hive that agent CLIs pass on, and their recognition in what a CLI prints. No I/O."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal, NamedTuple

RefusalKind = Literal["budget", "stopped"]
"""`budget`: a budget does not allow the call; `stopped`: the vendor does not accept the hive's key, or has refused so
many calls that none is passed on.
"""
MARKS: dict[RefusalKind, str] = {"budget": "hyperhive budget:", "stopped": "hyperhive stopped:"}
"""The beginnings of the texts."""
_TEXT = re.compile(r"hyperhive (budget|stopped):[^\"\\\r\n]{0,1000}")
"""A text ends where the string of JSON ends in which a CLI may show it."""
_BEHIND = ", url: http"
"""The words that codex puts behind the message of an error."""
_NEW_DAY = re.compile(r"begins anew at (\d{4}-\d\d-\d\d) 00:00 UTC")


class HiveRefusal(NamedTuple):
    """A refusal that was found in a message; `until` is the time at which it ends, in seconds since 1970, if known."""

    kind: RefusalKind
    text: str
    until: float | None = None


def new_day_text(until: int) -> str:
    """Return the sentence that says when a limit of a day begins anew; `until` are seconds since 1970."""
    return f"It begins anew at {datetime.fromtimestamp(until, UTC):%Y-%m-%d} 00:00 UTC."


def find_refusal_text(message: str) -> HiveRefusal | None:
    """Find a refusal of the hive in the message of an agent CLI."""
    found = _TEXT.search(message)
    if found is None:
        return None
    text = found[0].partition(_BEHIND)[0].strip()
    day = _NEW_DAY.search(text)
    until = None
    if day is not None:
        try:
            until = datetime.fromisoformat(day[1]).replace(tzinfo=UTC).timestamp()
        except ValueError:
            until = None
    return HiveRefusal("budget" if found[1] == "budget" else "stopped", text, until)
