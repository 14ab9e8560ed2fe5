"""The checker sees what it is there to see: each kind of broken promise, and nothing in a flawless run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.integration.crash.invariants import Accepted, Deliverable, Entry, Evidence, Stored, in_sequence, problems

GIVEN: Entry = {"event": "delivered", "items": [[1, "ann", "a:1", False], [2, "ann", "a:2", False]]}
AGAIN: Entry = {"event": "delivered", "items": [[2, "ann", "a:2", True]]}
FIRST: Entry = {"event": "acked", "asked": [1], "ids": [1], "began": 10, "ended": 12}
SECOND: Entry = {"event": "acked", "asked": [2], "ids": [2], "began": 20, "ended": 22}
# The answer to the one acknowledgement of message 2 that counted was lost.
REPEATED: Entry = {"event": "acked", "asked": [2], "ids": [], "began": 30, "ended": 32}

FLAWLESS = Evidence(
    accepted=[Accepted(1, "a:1", ("bob",)), Accepted(2, "a:2", ("bob",))],
    repeated=frozenset({"a:2"}),
    stored=[Stored(1, "ann", "a:1"), Stored(2, "ann", "a:2")],
    deliveries=[Deliverable(1, "bob", 11), Deliverable(2, "bob", 21)],
    logs={"bob": [GIVEN, FIRST, AGAIN, SECOND]},
)


def log(*entries: Entry) -> Evidence:
    return replace(FLAWLESS, logs={"bob": entries})


@pytest.mark.parametrize("evidence", [FLAWLESS, log(GIVEN, FIRST, REPEATED)])
def test_a_flawless_run_passes(evidence: Evidence) -> None:
    """Redelivery before the acknowledgement and an acknowledgement whose answer was lost break no promise."""
    assert problems(evidence) == []


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (replace(FLAWLESS, stored=FLAWLESS.stored[:1]), "is lost"),
        (replace(FLAWLESS, accepted=[Accepted(1, "a:1", ("bob", "eve"))]), "was to go to"),
        (replace(FLAWLESS, repeated=frozenset({"a:3"})), "never did"),
        (replace(FLAWLESS, stored=[*FLAWLESS.stored, Stored(3, "ann", "a:2")]), "is stored 2 times"),
        (replace(FLAWLESS, deliveries=[Deliverable(1, "bob", 11), Deliverable(2, "bob", None)]), "never acknowledged"),
        (log(GIVEN, FIRST, SECOND, REPEATED, AGAIN), "after it was acknowledged"),
        (log(GIVEN, GIVEN, FIRST, SECOND), "without being marked"),
        (log(FIRST, SECOND), "never delivered"),
        (log({**GIVEN, "items": GIVEN["items"][::-1]}, FIRST, SECOND), "came after"),
        (log(GIVEN, FIRST, SECOND, {**REPEATED, "ids": [2]}), "acknowledged 2 times"),
        (log(GIVEN, FIRST, {**REPEATED, "ids": [2]}), "by another request"),
        (log(GIVEN, FIRST, {**REPEATED, "began": 19}), "acknowledged again"),
        (log(GIVEN, FIRST, SECOND, {"event": "refused", "path": "/x", "code": "c", "message": "m"}), "was refused"),
    ],
)
def test_a_broken_promise_is_found(evidence: Evidence, words: str) -> None:
    """Each promise that a run can break is told in its own words."""
    assert any(words in problem for problem in problems(evidence)), problems(evidence)


def test_times_of_other_clocks_are_not_compared() -> None:
    """Without a common clock an acknowledgement may have any time, and its count is still checked."""
    late = replace(FLAWLESS, deliveries=[Deliverable(1, "bob", 3_600_011), Deliverable(2, "bob", 21)])
    assert problems(late) != []
    assert problems(replace(late, same_clock=False)) == []
    doubled = replace(log(GIVEN, FIRST, SECOND, {**REPEATED, "ids": [2]}), same_clock=False)
    assert problems(doubled) == ["bob: message 2 was acknowledged 2 times"]


@pytest.mark.parametrize("arrived", [["1", "3", "2"], ["1", "2"], ["1", "2", "2", "3"], ["1", "2", "3", "4"]])
def test_a_broken_chain_is_found(arrived: list[str]) -> None:
    """Disorder, loss, doubles and inventions are seen at the end of a chain."""
    assert list(in_sequence(["1", "2", "3"], ["1", "2", "3"])) == []
    assert len(list(in_sequence(arrived, ["1", "2", "3"]))) == 1
