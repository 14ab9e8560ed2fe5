"""The check of a conversation after failures in a row: a new one begins, the message is held, or the harness pauses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hive_agent.backends.base import Failed, FailureKind, Ok, Turn, TurnOutcome
from tests.unit.agent.backends.fake_backend import FakeBackend, Running, serving
from tests.unit.agent.fake_core_api import FakeCore


def damaged(backend: FakeBackend) -> bool:
    """Return True while the backend has the conversation that it had at the start."""
    sessions = [call for call in backend.asked if "session" in call]
    return sessions[-1:] in ([], ["return_to_session"])


def notices(running: Running) -> list[str]:
    return [str(entry["text"]) for entry in running.told("entry", kind="notice")]


@pytest.mark.parametrize("kind", ["refused", "crashed", "hung"])
async def test_a_damaged_conversation_is_replaced(core: FakeCore, tmp_path: Path, kind: FailureKind) -> None:
    """A conversation in which everything fails is given up for one with the notes, which is told; nothing is held."""
    broken = Failed(kind, "history: a bad thing")

    async def run(_turn: Turn) -> TurnOutcome:
        return broken if damaged(running.backend) else Ok()

    number = await core.deliver("x")
    async with serving(core, tmp_path, run) as running:
        running.backend.checking = lambda: broken if damaged(running.backend) else Ok()
        await core.until(lambda: core.acknowledged() == [number])
        asked = [call for call in running.backend.asked if call != "close"]
        assert asked == ["check", "new_session with notes", "check"]
        assert running.backend.attempts == [(1, attempt) for attempt in range(1, 5)]
        assert any("a new one has begun" in text for text in notices(running))
        assert running.desk.snapshot()["held"] == []
    [notice] = [state.notice for state in core.states if state.notice]
    assert "history: a bad thing" in notice


async def test_too_long_for_ever_is_replaced_at_once(core: FakeCore, tmp_path: Path) -> None:
    """A conversation that stays too long although it was compacted is replaced after that one failure."""
    broken = Failed("too_long", "does not fit")

    async def run(_turn: Turn) -> TurnOutcome:
        return broken if damaged(running.backend) else Ok()

    number = await core.deliver("x")
    async with serving(core, tmp_path, run) as running:
        running.backend.checking = lambda: broken if damaged(running.backend) else Ok()
        await core.until(lambda: core.acknowledged() == [number])
        assert running.backend.asked == ["compact", "check", "new_session with notes", "check"]
    assert "paused" not in core.state_names()


async def test_a_bad_message_costs_no_conversation(core: FakeCore, tmp_path: Path) -> None:
    """A message that is refused where another turn works is held for the operator, and others are handled."""

    async def run(turn: Turn) -> TurnOutcome:
        return Failed("refused", "no") if "bad" in [one.body for one in turn.deliveries] else Ok()

    await core.deliver("bad", "ada")
    async with serving(core, tmp_path, run) as running:
        await running.turn(1, "held")
        later = await core.deliver("fine", "ada")
        await core.until(lambda: core.acknowledged() == [later])
        assert running.backend.asked == ["check"]
    assert any(state.state == "paused" and "waits for the operator" in state.detail for state in core.states)


async def test_a_message_that_damages_every_conversation_is_held(core: FakeCore, tmp_path: Path) -> None:
    """A message that is refused in a new conversation, too, and stays in its history, is held; the next one is new."""
    poisoned = False

    async def run(turn: Turn) -> TurnOutcome:
        nonlocal poisoned
        poisoned = poisoned or "bad" in [one.body for one in turn.deliveries]
        return Failed("refused", "no") if poisoned else Ok()

    def check() -> TurnOutcome:
        nonlocal poisoned
        if running.backend.asked[-2:-1] == ["new_session with notes"]:
            poisoned = False
        return Failed("refused", "no") if poisoned else Ok()

    await core.deliver("bad")
    async with serving(core, tmp_path, run) as running:
        running.backend.checking = check
        await running.turn(1, "held")
        later = await core.deliver("fine")
        await core.until(lambda: core.acknowledged() == [later])
        assert running.backend.turns == [[1]] * 4 + [[later]]


async def test_an_api_that_refuses_everything_costs_no_conversation(core: FakeCore, tmp_path: Path) -> None:
    """The old conversation is kept if a new one fails as well; nothing is held, and the harness pauses."""
    broken = True

    def outcome() -> TurnOutcome:
        return Failed("refused", "no such model") if broken else Ok()

    async def run(_turn: Turn) -> TurnOutcome:
        return outcome()

    number = await core.deliver("x")
    async with serving(core, tmp_path, run) as running:
        running.backend.checking = outcome
        await core.until(lambda: "paused" in core.state_names())
        assert running.backend.asked == ["check", "new_session with notes", "check", "return_to_session"]
        assert running.desk.snapshot()["held"] == []
        [detail] = [state.detail for state in core.states if state.state == "paused"]
        assert detail.startswith("a new conversation fails, too") and "no such model" in detail
        broken = False
        await running.until(lambda: running.told("turn", id=1, state="waiting", attempt=3))
        await running.desk.retry(1)
        await core.until(lambda: core.acknowledged() == [number])


@pytest.mark.parametrize(
    "checks",
    [
        pytest.param(lambda _backend: Failed("rate_limit", "wait"), id="in the old conversation"),
        pytest.param(
            lambda backend: Failed("refused", "no") if damaged(backend) else Failed("rate_limit", "wait"),
            id="in a new one",
        ),
    ],
)
async def test_a_check_that_says_nothing_changes_nothing(
    core: FakeCore, tmp_path: Path, checks: Callable[[FakeBackend], TurnOutcome]
) -> None:
    """While the API refuses for another reason, the conversation is kept, and the message is tried again."""
    left = [Failed("crashed", "gone")] * 4

    async def run(_turn: Turn) -> TurnOutcome:
        return left.pop() if left else Ok()

    number = await core.deliver("x")
    async with serving(core, tmp_path, run) as running:
        running.backend.checking = lambda: checks(running.backend)
        await core.until(lambda: core.acknowledged() == [number])
        assert damaged(running.backend)
        assert running.backend.asked.count("check") >= 2
