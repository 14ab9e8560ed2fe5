"""Times as the tables keep them: milliseconds since 1970."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def milliseconds() -> int:
    """Now."""
    return time.time_ns() // 1_000_000


def moment(at: int) -> datetime:
    """A time of the tables as the protocol tells it."""
    return datetime.fromtimestamp(at / 1_000, UTC)
