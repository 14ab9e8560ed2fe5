"""A limit on processor time for a calculation that cannot be awaited."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TooLong(Exception):
    """The calculation was broken off."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Break the block off with TooLong once this process has used `seconds` of processor time in it.

    For the main thread only. Works in `re` too, which looks for signals; a thread would not help, as `re` holds the
    interpreter's lock.
    """

    def broken_off(_signal: int, _frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, broken_off)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, before)
