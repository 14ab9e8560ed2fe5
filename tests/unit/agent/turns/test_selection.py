"""Messages whose turns always fail, and the others beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hive_agent.backends.base import Failed, NeedsLogin, Ok, Turn, TurnOutcome
from hive_agent.turns.failure_policy import Reaction
from hive_agent.turns.selection import PER_TURN, SEARCHED, SUSPECT_AFTER, BatchSelector, FailureHistory, select_batch
from hive_core.protocol import Delivery
from tests.unit.agent.backends.fake_backend import serving
from tests.unit.agent.fake_core_api import FakeCore

SENDERS = ["ada", "bob", "carol", "operator"]


def delivery(number: int, sender: str, attempt: int = 1) -> Delivery:
    return Delivery(
        id=number,
        sender=sender,
        to="alice",
        body="x",
        sent_at=datetime.now(UTC),
        attempt=attempt,
        redelivered=attempt > 1,
    )


# --- the choice -------------------------------------------------------------------------------------------------

Waiting = list[tuple[str, int, int]]
waiting = st.lists(st.tuples(st.sampled_from(SENDERS), st.integers(0, 5), st.integers(0, 20)), min_size=1, max_size=40)


@given(waiting, st.booleans())
def test_choice(messages: Waiting, suspects_first: bool) -> None:
    """Something is chosen, never too much, a suspect always alone, and nothing before an older one of its sender."""
    deliveries = [delivery(number, sender) for number, (sender, _, _) in enumerate(messages, 1)]
    past = {number: FailureHistory(turns, failed_in) for number, (_, turns, failed_in) in enumerate(messages, 1)}
    chosen = select_batch(deliveries, past, suspects_first=suspects_first)
    assert 1 <= len(chosen) <= PER_TURN
    assert len(chosen) == 1 or not any(past[one.id].suspect for one in chosen)
    for sender in SENDERS:
        taken = [one.id for one in chosen if one.sender == sender]
        assert taken == [one.id for one in deliveries if one.sender == sender][: len(taken)]
    assert [one.id for one in chosen] == sorted(one.id for one in chosen)


@given(waiting)
def test_without_suspects_the_oldest(messages: Waiting) -> None:
    """As long as nothing failed twice, a turn takes the ten oldest, whoever they are from."""
    deliveries = [delivery(number, sender) for number, (sender, _, _) in enumerate(messages, 1)]
    past = {one.id: FailureHistory(SUSPECT_AFTER - 1) for one in deliveries}
    assert select_batch(deliveries, past, suspects_first=True) == deliveries[:PER_TURN]


def test_third_attempt_is_made_alone() -> None:
    """What the hive hands out for the third time is alone in its turn, also if this harness never saw it before."""
    selector = BatchSelector()
    deliveries = [delivery(1, "ada", 3), delivery(2, "bob", 2), delivery(3, "ada"), delivery(4, "carol")]
    assert [one.id for one in selector.select(deliveries)] == [2, 4]
    assert [one.id for one in selector.select(deliveries)] == [1]


def test_looking_does_not_make_suspect() -> None:
    """A message that is handed out again and again without being in a turn is not taken for one that fails."""
    selector = BatchSelector()
    for attempt in range(1, 20):
        bad = delivery(1, "ada", attempt)
        others = [delivery(number, "bob", attempt) for number in range(2, 30)]
        if len(batch := selector.select([bad, *others])) > 1:
            continue
        selector.record_failure(batch)
    assert len(selector.select([delivery(1, "ada", 20), *others])) == PER_TURN


@given(st.lists(st.tuples(st.sampled_from(SENDERS), st.booleans()), min_size=1, max_size=60))
def test_neighbours_get_through(messages: list[tuple[str, bool]]) -> None:
    """With any mix of bad messages: all that no bad one of their sender stands before are handled, each sender's in
    order, and every bad one that can be is tried again and again, while nothing else is lost.
    """
    left = {number: sender for number, (sender, _) in enumerate(messages, 1)}
    bad = {number for number, (_, is_bad) in enumerate(messages, 1) if is_bad}
    attempts = dict.fromkeys(left, 0)
    handled: list[int] = []
    late: list[int] = []
    selector = BatchSelector()
    for turn in range(400):
        window = sorted(left)[: selector.most]
        if not window:
            break
        for number in window:
            attempts[number] += 1
        batch = selector.select([delivery(number, left[number], attempts[number]) for number in window])
        ids = [one.id for one in batch]
        if bad.intersection(ids):
            selector.record_failure(batch)
            late += ids if turn >= 300 else []
        else:
            selector.record_success(batch)
            handled += ids
            for number in ids:
                del left[number]
    first_bad = {
        sender: min((n for n in bad if messages[n - 1][0] == sender), default=len(messages) + 1) for sender in SENDERS
    }
    assert set(handled) == {n for n, (sender, _) in enumerate(messages, 1) if n < first_bad[sender]}
    for sender in SENDERS:
        of_sender = [number for number in handled if messages[number - 1][0] == sender]
        assert of_sender == sorted(of_sender)
    assert set(late) == {number for number in first_bad.values() if number <= len(messages)}


def test_asks_for_more_only_with_suspects() -> None:
    """A harness looks further than one turn only while there is something to get past."""
    selector = BatchSelector()
    assert selector.most == PER_TURN
    bad = selector.select([delivery(1, "ada", 3)])
    assert selector.most == SEARCHED
    selector.record_success(bad)
    assert selector.most == PER_TURN


# --- the harness --------------------------------------------------------------------------------------------------


def poisoned(*bodies: str) -> TurnOutcome:
    # Of a kind that is tried for ever, unlike those whose message is held for the operator after some failures.
    return Failed("core", "cannot be handled") if "poison" in bodies else Ok()


async def judge(turn: Turn) -> TurnOutcome:
    return poisoned(*(one.body for one in turn.deliveries))


async def test_neighbours_of_poison_are_handled(core: FakeCore, tmp_path: Path) -> None:
    """Messages that wait with one that always fails are handled, and so are later ones; the bad one is kept."""
    bad = await core.deliver("poison", "ada")
    behind = await core.deliver("fine", "ada")
    others = [await core.deliver("fine", "bob") for _ in range(15)]
    async with serving(core, tmp_path, judge) as running:
        await core.until(lambda: core.acknowledged() == others)
        later = await core.deliver("fine", "carol")
        await core.until(lambda: core.acknowledged() == [*others, later])
        tried = len([turn for turn in running.backend.turns if bad in turn])
        await core.until(lambda: len([turn for turn in running.backend.turns if bad in turn]) > tried)
        assert behind not in {number for turn in running.backend.turns[2:] for number in turn if len(turn) > 1}
    assert set(core.messages) - set(core.acknowledged()) == {bad, behind}


async def test_set_aside_is_free_during_the_turn(core: FakeCore, tmp_path: Path) -> None:
    """What a turn leaves out is handed back before it begins, so the model's `recv` gets the oldest first."""
    held: list[list[int]] = []

    async def looks(turn: Turn) -> TurnOutcome:
        held.append([number for number, stored in core.messages.items() if stored.holder is not None])
        return await judge(turn)

    bad = await core.deliver("poison", "ada")
    fine = await core.deliver("fine", "bob")
    async with serving(core, tmp_path, looks):
        await core.until(lambda: core.acknowledged() == [fine])
    assert held[:2] == [[bad, fine]] * 2
    assert [fine] in held[2:]


async def test_missing_login_makes_nothing_suspect(core: FakeCore, tmp_path: Path) -> None:
    """Turns without a login say nothing about their messages: afterwards these are handled together."""
    outcomes: list[TurnOutcome] = [NeedsLogin("log in")] * 4

    async def logs_in_late(_turn: Turn) -> TurnOutcome:
        return outcomes.pop() if outcomes else Ok()

    ids = [await core.deliver("x") for _ in range(3)]
    async with serving(core, tmp_path, logs_in_late, pause=lambda *_values: 0.01) as running:
        await core.until(lambda: core.acknowledged() == ids)
        assert running.backend.turns == [ids] * 5


async def test_poison_alone_slows_down(core: FakeCore, tmp_path: Path) -> None:
    """A message that fails alone is tried with growing pauses, never in a tight loop, and always as the same turn."""
    rows: list[int] = []

    def counted(_reaction: Reaction, in_a_row: int, _retry_after: float | None) -> float:
        rows.append(in_a_row)
        return 0.001

    await core.deliver("poison")
    async with serving(core, tmp_path, judge, pause=counted) as running:
        await core.until(lambda: len(running.backend.turns) >= 6)
        assert running.backend.attempts[:6] == [(1, attempt) for attempt in range(1, 7)]
    assert rows[:5] == [1, 2, 3, 4, 5]
