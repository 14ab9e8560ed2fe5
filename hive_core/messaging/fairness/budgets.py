"""Budgets per minute of each sender, in all and to each recipient. In memory only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hive_core.errors import HiveError
from hive_core.protocol.names import OPERATOR, SYSTEM
from hive_core.settings import Budgets
from hive_core.text import format_bytes

STATUS_CHANGES = 30
"""Changes of an agent's status text in a minute."""
_MINUTE = 60.0


class Meter:
    """The part of a budget that is spent: it is regained evenly within a minute.

    The only state is the time at which nothing is spent any more (the generic cell rate algorithm). A single use may
    exceed the budget, if something is left of it; the next use then has to wait longer.
    """

    __slots__ = ("_per_minute", "_whole_at")

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._whole_at = -math.inf

    def wait(self, now: float) -> float:
        """Return the seconds until something is left of the budget; 0 if something is."""
        return max(0.0, self._whole_at - now - _MINUTE * (1 - 1 / self._per_minute))

    def spend(self, amount: int, now: float) -> None:
        """Spend a part of the budget."""
        self._whole_at = max(self._whole_at, now) + _MINUTE * amount / self._per_minute


class SendingBudgets:
    """The budgets of each agent for a minute. The operator and the hive itself have no limit."""

    def __init__(self, budgets: Budgets, ticks: Callable[[], float]) -> None:
        """`ticks` gives the time in seconds, and never goes back."""
        self._budgets = budgets
        self._ticks = ticks
        self._senders: dict[str, tuple[Meter, Meter]] = {}
        self._pairs: dict[tuple[str, str], tuple[Meter, Meter]] = {}

    def check(self, sender: str, recipients: Sequence[str]) -> None:
        """Raise `sending_too_fast` unless the agent `sender` may send to all `recipients` now."""
        if sender in (OPERATOR, SYSTEM):
            return
        now, budgets = self._ticks(), self._budgets
        if (spent := self._senders.get(sender)) is not None:
            _check(sender, "", spent, now, budgets.messages_per_minute, budgets.bytes_per_minute)
        for name in recipients:
            if (spent := self._pairs.get((sender, name))) is not None:
                most, most_bytes = budgets.messages_per_minute_to_one, budgets.bytes_per_minute_to_one
                _check(sender, f" to {name}", spent, now, most, most_bytes)

    def spend(self, sender: str, recipients: Sequence[str], size: int, age: float = 0.0) -> None:
        """Count a message that was accepted `age` seconds ago."""
        if sender in (OPERATOR, SYSTEM):
            return
        now, budgets = self._ticks() - age, self._budgets
        meters = self._senders.get(sender)
        if meters is None:
            meters = self._senders[sender] = Meter(budgets.messages_per_minute), Meter(budgets.bytes_per_minute)
        meters[0].spend(len(recipients), now)
        meters[1].spend(size * len(recipients), now)
        for name in recipients:
            meters = self._pairs.get((sender, name))
            if meters is None:
                meters = Meter(budgets.messages_per_minute_to_one), Meter(budgets.bytes_per_minute_to_one)
                self._pairs[sender, name] = meters
            meters[0].spend(1, now)
            meters[1].spend(size, now)

    def forget(self, name: str) -> None:
        """Discard the budgets of and towards an agent that was purged."""
        self._senders.pop(name, None)
        self._pairs = {pair: meters for pair, meters in self._pairs.items() if name not in pair}


class StatusChanges:
    """The budget of each agent for changes of its status text, which is stored and shown to all that watch."""

    def __init__(self, ticks: Callable[[], float]) -> None:
        """`ticks` gives the time in seconds, and never goes back."""
        self._ticks = ticks
        self._meters: dict[str, Meter] = {}

    def check(self, name: str) -> None:
        """Count a change; raises `sending_too_fast`."""
        now = self._ticks()
        meter = self._meters.setdefault(name, Meter(STATUS_CHANGES))
        if (wait := meter.wait(now)) > 0:
            raise HiveError(
                "sending_too_fast",
                f"{name} changes its status too often: at most {STATUS_CHANGES} times a minute",
                hint=f"change it again in {math.ceil(wait)} s",
                status=429,
            )
        meter.spend(1, now)


def _check(sender: str, to: str, spent: tuple[Meter, Meter], now: float, most: int, most_bytes: int) -> None:
    wait = max(spent[0].wait(now), spent[1].wait(now))
    if wait <= 0:
        return
    raise HiveError(
        "sending_too_fast",
        f"{sender} sends too much{to}: at most {most} messages and {format_bytes(most_bytes)} a minute; "
        "this one was not stored",
        hint=f"send it again in {math.ceil(wait)} s; put several messages into one, and what is long into a file",
        status=429,
    )
