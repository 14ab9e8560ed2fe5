"""Budgets per minute of senders."""

from __future__ import annotations

import pytest

from hive_core.errors import HiveError
from hive_core.messaging.fairness.budgets import STATUS_CHANGES, Meter, SendingBudgets, StatusChanges
from hive_core.settings import Budgets
from tests.unit.core.messaging.messaging_hive import FIRST, MessagingHive

BUDGETS = Budgets(
    messages_per_minute=30, messages_per_minute_to_one=20, bytes_per_minute=3_000, bytes_per_minute_to_one=2_000
)


class Sending:
    """Budgets with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.budgets = SendingBudgets(BUDGETS, lambda: self.now)

    def accepts(self, sender: str, *recipients: str, size: int = 1) -> bool:
        """Send a message; return True if it is accepted."""
        try:
            self.budgets.check(sender, recipients)
        except HiveError as error:
            assert (error.code, error.status) == ("sending_too_fast", 429)
            return False
        self.budgets.spend(sender, recipients, size)
        return True

    def accepted(self, *recipients: str, size: int = 1, tries: int = 100) -> int:
        return sum(self.accepts("ada", *recipients, size=size) for _ in range(tries))


def test_a_minute_has_its_messages() -> None:
    """At once, a pair has its budget; then what a second gives back, and after a minute all of it."""
    sending = Sending()
    assert sending.accepted("bob") == 20
    sending.now += 3.0
    assert sending.accepted("bob") == 1
    sending.now += 60.0
    assert sending.accepted("bob") == 20


def test_recipients_count_together() -> None:
    """A sender that has spent its budget on one recipient has little left for the next; others have their own."""
    sending = Sending()
    assert (sending.accepted("bob"), sending.accepted("cleo")) == (20, 10)
    assert sending.accepts("cleo", "bob")


def test_bytes_are_bounded() -> None:
    """Large messages spend the budget of bytes long before that of messages."""
    sending = Sending()
    assert sending.accepted("bob", size=500) == 4
    assert sending.accepted("cleo", size=500) == 2


def test_a_broadcast_counts_for_each_recipient() -> None:
    """A broadcast to more recipients than a minute's budget goes out once, and then makes its sender wait longer."""
    sending = Sending()
    everyone = [f"a{number}" for number in range(90)]
    assert sending.accepted(*everyone) == 1
    sending.now += 119.0
    assert sending.accepted(*everyone) == 0
    sending.now += 3.0
    assert sending.accepted(*everyone) == 1


@pytest.mark.parametrize("sender", ["operator", "system"])
def test_operator_and_hive_are_exempt(sender: str) -> None:
    """Neither is ever refused."""
    sending = Sending()
    assert all(sending.accepts(sender, "bob", size=10**9) for _ in range(100))


def test_a_refusal_says_when_to_send_again() -> None:
    """After the time that the hint names the message is accepted."""
    sending = Sending()
    sending.accepted("bob")
    with pytest.raises(HiveError) as refused:
        sending.budgets.check("ada", ["bob"])
    assert "send it again in 3 s" in refused.value.hint
    assert "ada sends too much to bob: at most 20 messages" in refused.value.message
    sending.now += 3.0
    assert sending.accepts("ada", "bob")


def test_a_purged_agent_leaves_nothing() -> None:
    """The next agent of the name begins with a whole budget."""
    sending = Sending()
    sending.accepted("bob")
    sending.budgets.forget("bob")
    assert sending.accepted("bob") == 10


@pytest.mark.parametrize("per_minute", [1, 2, 60, 10**9])
def test_a_meter_never_gives_more_than_its_rate(per_minute: int) -> None:
    """In an hour of uses as often as possible there are at most 61 minutes' worth."""
    meter, now, used = Meter(per_minute), 0.0, 0
    step = max(1, per_minute // 5)
    while now < 3_600:
        if (wait := meter.wait(now)) > 0:
            now += max(wait, 1e-6)
            continue
        meter.spend(step, now)
        used += step
    assert 59 * per_minute <= used <= 61 * per_minute + step


def test_status_texts_are_bounded() -> None:
    """An agent that changes its status all the time is refused, another one is not, and it may again later."""
    now = 0.0
    changes = StatusChanges(lambda: now)
    for _ in range(STATUS_CHANGES):
        changes.check("ada")
    with pytest.raises(HiveError) as refused:
        changes.check("ada")
    assert (refused.value.code, refused.value.status) == ("sending_too_fast", 429)
    changes.check("bob")
    now = 2.0
    changes.check("ada")


async def test_a_restart_forgives_nothing(hive: MessagingHive) -> None:
    """Messages of the last minute, and those that wait, still count in the next daemon."""
    budgets = Budgets(messages_per_minute_to_one=20, unacknowledged_to_one=25)
    hive.inbox_limit(10_000, budgets)
    await hive.broker.open()
    await hive.broker.hello("ada", FIRST)
    await hive.send(*map(str, range(20)))
    hive.inbox_limit(10_000, budgets)
    await hive.broker.open()
    with pytest.raises(HiveError) as refused:
        await hive.send("one more")
    assert refused.value.code == "sending_too_fast"
    hive.now += 60_000
    await hive.send(*map(str, range(5)))
    with pytest.raises(HiveError) as refused:
        await hive.send("one more")
    assert refused.value.code == "too_many_waiting"
    await hive.acknowledge(await hive.received())
    await hive.send("one more")
