"""How many receives an agent may have under way: each may hold a megabyte of messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from hive_core.errors import HiveError
from hive_core.messaging.wakeups import Ring

MOST_POLLS = 8


class Polls:
    """The receives under way, by agent."""

    def __init__(self) -> None:
        self._open: defaultdict[str, set[Ring]] = defaultdict(set)
        self._holding: dict[str, Ring] = {}

    @contextmanager
    def enter(self, name: str, ring: Ring, *, holding: bool) -> Iterator[None]:
        """Count a receive of `name`, which listens with `ring`; raises `too_many_polls`.

        One that says what it is `holding` ends the one before it that did: both would be given the same messages,
        and the newer caller knows better.
        """
        polls = self._open[name]
        if holding and (older := self._holding.pop(name, None)) is not None:
            polls.discard(older)
            older.end()
        if len(polls) >= MOST_POLLS:
            raise HiveError(
                "too_many_polls",
                f"{name} has {MOST_POLLS} receives under way already",
                hint="wait for the answer of one of them",
                status=429,
            )
        polls.add(ring)
        if holding:
            self._holding[name] = ring
        try:
            yield
        finally:
            polls.discard(ring)
            if self._holding.get(name) is ring:
                del self._holding[name]
