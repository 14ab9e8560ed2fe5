"""The limit of the pauses that an agent CLI makes by itself before it repeats a failed call of the model."""

from __future__ import annotations

import asyncio
import time

from hive_agent.backends import retry_times
from hive_agent.backends.api_errors import classify_error
from hive_agent.backends.base import Failed
from hive_agent.backends.one_shot.reader import OutputReader
from hive_agent.backends.transcript import Entry, Notice

_REPEAT_SECONDS = 300.0
"""Longest pause before a call that the program repeats by itself. The harness shows a longer one while it waits."""


class RepeatLimit:
    """Ends a turn whose program waits too long before it calls a failing API again.

    opencode waits as long as the header `retry-after` says, without a word about it.
    """

    def __init__(self, reader: OutputReader, ended: asyncio.Event) -> None:
        self._reader = reader
        self._ended = ended
        self._failure = ""
        self._timer: asyncio.TimerHandle | None = None

    def note(self, entry: Entry) -> None:
        """Start the time limit if the entry tells of a repeated call; end the turn if a longer pause is announced."""
        if not isinstance(entry, Notice) or not entry.repeat:
            return
        self.cancel()
        self._failure = entry.text
        seconds = retry_times.find_seconds(entry.text, time.time())
        if seconds is not None and seconds > _REPEAT_SECONDS:
            self.give_up()
        else:
            self._timer = asyncio.get_running_loop().call_later(_REPEAT_SECONDS, self.give_up)

    def cancel(self) -> None:
        """End the time limit: there is new output, or the program is ended."""
        self._failure = ""
        if self._timer is not None:
            self._timer.cancel()

    def give_up(self) -> bool:
        """End the turn if a call is being repeated; return True if so."""
        if not self._failure:
            return False
        if self._reader.verdict is None:
            verdict = classify_error(self._failure)
            if isinstance(verdict, Failed) and verdict.kind not in ("rate_limit", "overloaded", "billing"):
                verdict = Failed("rate_limit", verdict.detail, verdict.retry_after)
            self._reader.verdict = verdict
        self._ended.set()
        return True
