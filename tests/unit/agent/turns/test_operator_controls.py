"""Turns that wait, and what a person does with them: cancel, retry, skip."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hive_agent.backends.base import Failed, Ok, Turn, TurnOutcome
from hive_agent.interfaces import ActionNotPossible
from hive_agent.turns.history import TurnHistory
from hive_agent.turns.records import TurnRecord
from tests.unit.agent.backends.fake_backend import Run, forever, serving, well
from tests.unit.agent.fake_core_api import FakeCore, refusal


def long_pause(*_values: object) -> float:
    """Nothing is tried again before the test is over, unless a person wants it."""
    return 3_600.0


def fails_first(times: int = 1) -> Run:
    """The first turn fails so often, all others end well."""

    async def run(turn: Turn) -> TurnOutcome:
        return Failed("refused", "no") if turn.id == 1 and turn.attempt <= times else Ok()

    return run


async def idle(core: FakeCore) -> None:
    """Wait until the harness waits for messages."""
    await core.until(lambda: core.state_names()[-1:] == ["idle"] and core.calls[-1] == "POST /v1/messages/receive")


# --- one turn ---------------------------------------------------------------------------------------------------


async def test_cancel_holds_the_turn(core: FakeCore, tmp_path: Path) -> None:
    """A turn that a person stops is neither lost nor tried again by itself, and others go on."""
    number = await core.deliver("x")

    async def first_for_ever(turn: Turn) -> TurnOutcome:
        return await forever(turn) if turn.id == 1 and turn.attempt == 1 else Ok()

    async with serving(core, tmp_path, first_for_ever) as running:
        await running.backend.started.wait()
        await running.desk.cancel()
        held = await running.turn(1, "held")
        assert held["failure"] == "cancelled"
        assert running.backend.cancelled == 1
        later = await core.deliver("y")
        await core.until(lambda: core.acknowledged() == [later])
        with pytest.raises(ActionNotPossible, match="No turn is running"):
            await running.desk.cancel()
        await running.desk.retry(1)
        await core.until(lambda: core.acknowledged() == [number, later])
        assert running.backend.attempts == [(1, 1), (2, 1), (1, 2)]


async def test_skip_gives_up_a_held_turn(core: FakeCore, tmp_path: Path) -> None:
    """The messages of a turn that a person skips are acknowledged, and no model sees them again."""
    number = await core.deliver("x")
    async with serving(core, tmp_path, forever) as running:
        await running.backend.started.wait()
        await running.desk.cancel()
        await running.turn(1, "held")
        await core.until(lambda: core.states[-1].detail == "1 turn waits for the operator")
        await running.desk.skip(1)
        await core.until(lambda: core.acknowledged() == [number])
        assert running.backend.turns == [[number]]
        await idle(core)
        assert running.desk.snapshot()["held"] == []
        await core.until(lambda: core.states[-1].detail == "")  # no turn waits for a person any more
        assert "paused" not in core.state_names(), "who stopped it knows"
        assert (await running.desk.history(None, 1))[0]["state"] == "skipped"
        with pytest.raises(ActionNotPossible, match="Turn 1 waits neither"):
            await running.desk.skip(1)


async def test_skip_needs_no_end_of_the_pause(core: FakeCore, tmp_path: Path) -> None:
    """A turn that waits can be skipped too; its messages are acknowledged though nothing else is tried yet."""
    number = await core.deliver("x")
    async with serving(core, tmp_path, fails_first(), pause=long_pause) as running:
        await running.turn(1, "waiting")
        later = await core.deliver("y")
        await running.desk.skip(1)
        await core.until(lambda: core.acknowledged() == [number])
        assert running.backend.turns == [[number]]
        await running.desk.new_session()  # whatever a person asks for ends the pause
        await core.until(lambda: core.acknowledged() == [number, later])


async def test_skip_survives_a_restart(core: FakeCore, tmp_path: Path) -> None:
    """If the harness ends before a skipped turn's messages are acknowledged, the next one does that, and only that."""
    number = await core.deliver("x")
    core.refusals["POST /v1/messages/ack"] = refusal(409, "lease_lost", "not now")
    async with serving(core, tmp_path, fails_first(9), pause=long_pause) as running:
        await running.turn(1, "waiting")
        await running.desk.skip(1)
        await core.until(lambda: "POST /v1/messages/ack" in core.calls)
        await running.end()
    core.refusals.clear()
    async with serving(core, tmp_path, well) as again:
        await core.until(lambda: core.acknowledged() == [number])
        assert again.backend.turns == []


async def test_retry_at_once(core: FakeCore, tmp_path: Path) -> None:
    """A person can have a turn tried now, before all others, though its time has not come."""
    number = await core.deliver("x", "ada")
    async with serving(core, tmp_path, fails_first(), pause=long_pause) as running:
        await running.turn(1, "waiting")
        later = await core.deliver("y")
        await running.desk.retry(1)
        await core.until(lambda: core.acknowledged() == [number, later])
        assert running.backend.attempts == [(1, 1), (1, 2), (2, 1)]


async def test_a_turn_that_does_not_wait_cannot_be_steered(core: FakeCore, tmp_path: Path) -> None:
    """What does not fit is refused in words: turns that run, are over, or never were."""
    await core.deliver("x")
    async with serving(core, tmp_path, forever) as running:
        await running.backend.started.wait()
        for turn in (1, 2, 0, -1, 10**30):
            for ask in (running.desk.retry, running.desk.skip):
                with pytest.raises(ActionNotPossible, match=f"Turn {turn} waits neither"):
                    await ask(turn)
        with pytest.raises(ActionNotPossible, match="no conversation yet"):
            await running.desk.compact()


async def test_held_turns_stay_held_over_a_restart(core: FakeCore, tmp_path: Path) -> None:
    """What waits for a person waits for them in the next life of the harness, too, and is not in the way."""
    number = await core.deliver("x")
    async with serving(core, tmp_path, forever) as running:
        await running.backend.started.wait()
        await running.desk.cancel()
        await running.turn(1, "held")
        await running.end()
    assert core.messages[number].holder is None
    later = await core.deliver("y")
    async with serving(core, tmp_path, well) as again:
        await core.until(lambda: core.acknowledged() == [later])
        assert again.backend.turns == [[later]]
        await again.desk.retry(1)
        await core.until(lambda: core.acknowledged() == [number, later])
        assert again.backend.attempts == [(2, 1), (1, 2)]


@pytest.mark.parametrize(("wish", "attempts"), [("retry", [(1, 1), (2, 1), (1, 2)]), ("skip", [(1, 1), (2, 1)])])
async def test_steering_beside_other_work(
    core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: str, attempts: list[tuple[int, int]]
) -> None:
    """A turn that is freed while the harness looks for messages is neither taken for over nor handled as a new one."""
    number = await core.deliver("x", "ada")
    written = asyncio.Event()
    write = TurnHistory.write

    async def slow(self: TurnHistory, record: TurnRecord) -> None:
        await write(self, record)
        if record.state in ("waiting", "skipped"):
            await written.wait()

    async def first_for_ever(turn: Turn) -> TurnOutcome:
        return await forever(turn) if turn.id == 1 and turn.attempt == 1 else Ok()

    async with serving(core, tmp_path, first_for_ever) as running:
        await running.backend.started.wait()
        await running.desk.cancel()
        await running.turn(1, "held")
        await idle(core)
        monkeypatch.setattr(TurnHistory, "write", slow)
        wished = asyncio.create_task(getattr(running.desk, wish)(1))
        later = await core.deliver("y", "bob")
        await core.until(lambda: later in core.acknowledged())
        written.set()
        await wished
        await core.until(lambda: core.acknowledged() == [number, later])
        assert running.backend.attempts == attempts
