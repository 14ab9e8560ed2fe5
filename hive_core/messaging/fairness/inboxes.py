"""Counts of unacknowledged messages, and the room that each sender has in each inbox. In memory only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from hive_core.errors import HiveError
from hive_core.protocol.base import MAX_BODY_BYTES
from hive_core.protocol.names import OPERATOR, SYSTEM
from hive_core.settings import Budgets
from hive_core.text import format_bytes


class WaitingMessages(NamedTuple):
    """The unacknowledged messages from one sender to one recipient, and the bytes of their bodies."""

    sender: str
    recipient: str
    messages: int
    size: int


class Inboxes:
    """The unacknowledged messages by recipient and by sender, and the refusal of what has no room.

    `inbox_limit` bounds the messages of agents and the operator in an inbox, of which a tenth is kept for the operator.
    The hive's own notices are counted apart, with the same bound, so that nobody else can take their room.
    """

    def __init__(self, inbox_limit: int, budgets: Budgets) -> None:
        self.waiting: Counter[str] = Counter()
        """The number of all unacknowledged messages of each recipient."""
        self._notices: Counter[str] = Counter()
        self._limit = inbox_limit
        self._agents_limit = inbox_limit - inbox_limit // 10
        self._budgets = budgets
        self._pairs: dict[tuple[str, str], list[int]] = {}
        self._senders: dict[str, list[int]] = {}

    def load(self, rows: Iterable[WaitingMessages]) -> None:
        """Add what the database holds when the daemon starts."""
        for sender, recipient, messages, size in rows:
            self._change(sender, recipient, messages, size)

    def check(self, sender: str, recipients: Sequence[str], *, beside: int = 0) -> None:
        """Raise `inbox_full` or `too_many_waiting` unless there is room for a message of `sender` everywhere.

        A sender may exceed its bounds by one message at most, and by `beside` messages of any size.
        """
        full = self.full(sender, recipients)
        if full:
            raise HiveError(
                "inbox_full",
                f"{', '.join(full)}: {self._bound(sender)} messages wait there already; this one was not stored",
                hint="send again when some of them are handled",
                status=429,
            )
        if sender not in (OPERATOR, SYSTEM):
            self._check_shares(sender, recipients, beside)

    def full(self, sender: str, recipients: Iterable[str], planned: Counter[str] | None = None) -> list[str]:
        """Return the recipients whose inboxes have no room for a message of `sender` beside `planned` ones of its."""
        planned = planned or Counter()
        if sender == SYSTEM:
            return [name for name in recipients if self._notices[name] + planned[name] >= self._limit]
        most = self._bound(sender)
        return [name for name in recipients if self.waiting[name] - self._notices[name] + planned[name] >= most]

    def _bound(self, sender: str) -> int:
        """Return how many messages may be in an inbox for one of `sender` to be accepted there."""
        return self._limit if sender in (OPERATOR, SYSTEM) else self._agents_limit

    def add(self, sender: str, recipients: Iterable[str], size: int) -> None:
        """Count a message that is accepted; it is not on disk yet."""
        for name in recipients:
            self._change(sender, name, 1, size)

    def remove(self, sender: str, recipient: str, size: int, messages: int = 1) -> None:
        """Count messages as gone: acknowledged, or not stored after all. `size` is that of all of them."""
        self._change(sender, recipient, -messages, -size)

    def forget(self, recipient: str) -> None:
        """Count all messages for `recipient` as removed."""
        for sender, name in [pair for pair in self._pairs if pair[1] == recipient]:
            messages, size = self._pairs[sender, name]
            self._change(sender, name, -messages, -size)
        self.waiting[recipient] = self._notices[recipient] = 0

    def _change(self, sender: str, recipient: str, messages: int, size: int) -> None:
        self.waiting[recipient] += messages
        if sender == SYSTEM:
            self._notices[recipient] += messages
        elif sender != OPERATOR:
            _add(self._pairs, (sender, recipient), messages, size)
            _add(self._senders, sender, messages, size)

    def _check_shares(self, sender: str, recipients: Sequence[str], beside: int) -> None:
        budgets, beside_bytes = self._budgets, beside * MAX_BODY_BYTES
        messages, size = self._senders.get(sender, _NONE)
        most, most_bytes = budgets.unacknowledged + beside, budgets.unacknowledged_bytes + beside_bytes
        _check(sender, "for others", messages, most, size, most_bytes)
        for name in recipients:
            messages, size = self._pairs.get((sender, name), _NONE)
            most = budgets.unacknowledged_to_one + beside
            most_bytes = budgets.unacknowledged_bytes_to_one + beside_bytes
            _check(sender, f"for {name}", messages, most, size, most_bytes)


_NONE = (0, 0)
K = TypeVar("K")


def _add(counts: dict[K, list[int]], key: K, messages: int, size: int) -> None:
    count = counts.setdefault(key, [0, 0])
    count[0] += messages
    count[1] += size
    if not count[0]:
        del counts[key]


def _check(sender: str, whose: str, messages: int, most: int, size: int, most_bytes: int) -> None:
    if messages < most and size < most_bytes:
        return
    raise HiveError(
        "too_many_waiting",
        f"{messages} messages of {sender} ({format_bytes(size)}) wait {whose} already; this one was not stored "
        f"(at most {most} messages and {format_bytes(most_bytes)} may wait)",
        hint="wait until some of them are handled; put what is long into a file and send where it is",
        status=429,
    )
