"""The places of transfers with upstreams, of which no repository keeps those of others for long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hive_core.errors import HiveError
from hive_core.infra.concurrency.places import GaveWay, Holder, Places
from hive_core.work.repositories.upstream.output import Report

AT_ONCE = 2
"""Transfers side by side, as long as none of them takes long."""
TURN_SECONDS = 60.0
"""A transfer that others wait for goes on beside them after this time."""
MOST_LONG = 6
"""Transfers that go on beside; of more, the one that has brought least in a second is ended."""
_SHOWN = 5


class TransferPlaces:
    """The places of transfers. Each repository has one transfer at a time."""

    def __init__(self, at_once: int = AT_ONCE, turn_seconds: float = TURN_SECONDS, most_long: int = MOST_LONG) -> None:
        self._places = Places(at_once, turn_seconds, most_long)

    @asynccontextmanager
    async def hold(self, name: str, say: Report = lambda _: None) -> AsyncIterator[Holder]:
        """Wait for a place, and hold it within the block; `say` gets what it waits for.

        Raises HiveError `upstream_slow` if the block was ended for others.
        """
        if others := self._places.parties():
            more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            say(f"waiting for the transfers of {', '.join(others[:_SHOWN])}{more}")
        try:
            async with self._places.hold(name) as holder:
                yield holder
        except GaveWay:
            why = f"the transfer was the slowest of more than {MOST_LONG} that take long, and others waited"
            hint = "try again later: it gets the time that it needs when fewer take long"
            raise HiveError("upstream_slow", why, hint=hint, status=502) from None
