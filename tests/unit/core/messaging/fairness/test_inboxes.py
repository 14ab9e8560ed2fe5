"""The room of senders in inboxes."""

from __future__ import annotations

import pytest

from hive_core.errors import HiveError
from hive_core.messaging.fairness.inboxes import Inboxes, WaitingMessages
from hive_core.protocol import MAX_BODY_BYTES
from hive_core.settings import Budgets

BUDGETS = Budgets(
    unacknowledged=12, unacknowledged_to_one=10, unacknowledged_bytes=2_000, unacknowledged_bytes_to_one=1_000
)


def refusal(inboxes: Inboxes, sender: str, *recipients: str) -> str:
    """The code of the refusal of a message, or an empty text if there is room."""
    try:
        inboxes.check(sender, recipients)
    except HiveError as error:
        return error.code
    return ""


def fill(inboxes: Inboxes, sender: str, recipient: str, size: int = 1) -> int:
    """Return the number of messages that are accepted until the first refusal."""
    for count in range(1_000):
        if refusal(inboxes, sender, recipient):
            return count
        inboxes.add(sender, [recipient], size)
    raise AssertionError("no message was refused")


def test_one_sender_leaves_room_for_others() -> None:
    """An agent that fills its share of an inbox is refused, and nobody else is."""
    inboxes = Inboxes(100, BUDGETS)
    assert fill(inboxes, "ada", "operator") == 10
    assert refusal(inboxes, "ada", "operator") == "too_many_waiting"
    assert [refusal(inboxes, sender, "operator") for sender in ("bob", "system", "operator")] == ["", "", ""]


def test_all_agents_together_leave_room() -> None:
    """An inbox full of agents' messages takes the hive's notices, and a tenth of it messages of the operator."""
    inboxes = Inboxes(50, BUDGETS)
    assert sum(fill(inboxes, f"agent{number}", "bob") for number in range(9)) == 45
    assert fill(inboxes, "system", "bob") == 50
    assert fill(inboxes, "operator", "bob") == 5


def test_notices_take_no_room_of_others() -> None:
    """An inbox full of notices takes as many messages of agents as an empty one."""
    inboxes = Inboxes(10, BUDGETS)
    fill(inboxes, "system", "bob")
    assert fill(inboxes, "ada", "bob") == 9


@pytest.mark.parametrize("size", [600, 1_000, 300_000])
def test_bytes_count_too(size: int) -> None:
    """Large messages are refused before there are many; a bound is exceeded by one message at most."""
    inboxes = Inboxes(100, BUDGETS)
    assert (fill(inboxes, "ada", "bob", size) - 1) * size < BUDGETS.unacknowledged_bytes_to_one
    assert refusal(inboxes, "ada", "bob") == "too_many_waiting"


@pytest.mark.parametrize("size", [1, 1_000])
def test_room_beside_the_share(size: int) -> None:
    """Messages with room beside a share are accepted when it is used up, in messages or bytes, and so many only."""
    inboxes = Inboxes(100, BUDGETS)
    fill(inboxes, "ada", "operator", size)
    for _ in range(5):
        inboxes.check("ada", ["operator"], beside=5)
        inboxes.add("ada", ["operator"], MAX_BODY_BYTES)
    assert refusal(inboxes, "ada", "operator") == "too_many_waiting"
    with pytest.raises(HiveError, match="wait for"):
        inboxes.check("ada", ["operator"], beside=5)


def test_a_sender_is_bounded_in_all() -> None:
    """Messages to many recipients count together."""
    inboxes = Inboxes(100, BUDGETS)
    assert sum(fill(inboxes, "ada", name) for name in ("bob", "cleo", "dan")) == 12
    assert refusal(inboxes, "ada", "dan") == "too_many_waiting"


def test_what_is_acknowledged_gives_its_room_back() -> None:
    """Acknowledged, not stored, or purged: nothing is counted any more."""
    inboxes = Inboxes(100, BUDGETS)
    fill(inboxes, "ada", "bob", 200)
    inboxes.remove("ada", "bob", 200)
    assert refusal(inboxes, "ada", "bob") == ""
    inboxes.forget("bob")
    assert inboxes.waiting["bob"] == 0
    assert fill(inboxes, "ada", "bob") == 10


def test_what_waited_before_a_restart_counts() -> None:
    """Counts that the database gave are those of messages that were accepted."""
    inboxes = Inboxes(100, BUDGETS)
    inboxes.load([WaitingMessages("ada", "bob", 9, 9), WaitingMessages("system", "bob", 99, 99)])
    assert (inboxes.waiting["bob"], fill(inboxes, "ada", "bob"), fill(inboxes, "system", "bob")) == (108, 1, 1)
