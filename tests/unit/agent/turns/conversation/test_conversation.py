"""The conversation of a backend: compaction, notes, a new one, and the choice of a model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hive_agent.backends.base import Failed, Ok, Turn, TurnOutcome
from hive_agent.backends.transcript import SessionStarted, TokenUsage
from hive_agent.interfaces import ActionNotPossible
from hive_agent.turns.conversation import conversation
from hive_core.protocol import AgentConfig
from tests.unit.agent.backends.fake_backend import Running, serving, well
from tests.unit.agent.fake_core_api import FakeCore
from tests.unit.agent.turns.test_operator_controls import idle

# --- the conversation -------------------------------------------------------------------------------------------


async def uses(running: Running, context: int, window: int = 100) -> None:
    running.backend.emit(SessionStarted("s", fresh=False))
    running.backend.emit(TokenUsage(input=1, context=context, window=window))


async def test_a_full_conversation_is_shortened_after_notes(core: FakeCore, tmp_path: Path) -> None:
    """Before the window overflows the agent writes its notes, then the conversation is shortened, once."""

    async def fills(turn: Turn) -> TurnOutcome:
        await uses(running, 85 if turn.id == 1 else 50)
        return Ok()

    await core.deliver("x")
    async with serving(core, tmp_path, fills) as running:
        await core.until(lambda: core.acknowledged() == [1])
        await idle(core)
        await core.until(lambda: running.backend.asked == ["notes", "compact"])
        assert running.desk.snapshot()["context"] == 0
        await core.deliver("y")
        await core.until(lambda: core.acknowledged() == [1, 2])
        assert running.backend.asked == ["notes", "compact"]
        told = [str(entry["text"]) for entry in running.told("entry", turn=1, kind="notice")]
        assert any("write its notes" in text for text in told)
        assert any("was compacted" in text for text in told)


async def test_a_conversation_that_stays_full_is_not_shortened_for_ever(core: FakeCore, tmp_path: Path) -> None:
    """A compaction that fails, or frees nothing, is not repeated before another turn was handled."""

    async def fills(_turn: Turn) -> TurnOutcome:
        await uses(running, 99)
        return Ok()

    await core.deliver("x")
    async with serving(core, tmp_path, fills) as running:
        running.backend.compacting = lambda: Failed("crashed", "gone")
        await core.until(lambda: running.backend.asked == ["notes", "compact"])
        await idle(core)
        calls = len(core.calls)
        assert running.backend.asked == ["notes", "compact"]
        await core.deliver("y")
        await core.until(lambda: running.backend.asked == ["notes", "compact"] * 2)
        assert len(core.calls) > calls


async def test_compact_on_request(core: FakeCore, tmp_path: Path) -> None:
    """A person can have the conversation shortened at any time; the agent writes its notes before."""

    async def talks(_turn: Turn) -> TurnOutcome:
        await uses(running, 10)
        return Ok()

    await core.deliver("x")
    async with serving(core, tmp_path, talks) as running:
        await core.until(lambda: core.acknowledged() == [1])
        await idle(core)
        await running.desk.compact()
        await core.until(lambda: running.backend.asked == ["notes", "compact"])
        await idle(core)


async def test_notes_that_cannot_be_written_are_no_hindrance(core: FakeCore, tmp_path: Path) -> None:
    """If the turn for notes fails, that is told, and the conversation is shortened all the same."""

    async def talks(_turn: Turn) -> TurnOutcome:
        await uses(running, 10)
        return Ok()

    await core.deliver("x")
    async with serving(core, tmp_path, talks) as running:
        running.backend.noting = lambda: Failed("overloaded", "busy")
        await core.until(lambda: core.acknowledged() == [1])
        await running.desk.compact()
        await core.until(lambda: running.backend.asked == ["notes", "compact"])
        await running.until(lambda: running.told("entry", kind="notice", level="warning"))


async def test_new_session(core: FakeCore, tmp_path: Path) -> None:
    """A person can have the next turn begin a new conversation; how full the old one was is forgotten."""

    async def talks(_turn: Turn) -> TurnOutcome:
        await uses(running, 70)
        return Ok()

    await core.deliver("x")
    async with serving(core, tmp_path, talks) as running:
        await core.until(lambda: core.acknowledged() == [1])
        await running.desk.new_session()
        await core.until(lambda: running.backend.asked == ["new_session"])
        await running.until(lambda: running.desk.snapshot()["context"] == 0)
        with pytest.raises(ActionNotPossible, match="no conversation yet"):
            await running.desk.compact()


# --- the model --------------------------------------------------------------------------------------------------


async def test_a_model_is_chosen_live_and_remembered(core: FakeCore, tmp_path: Path) -> None:
    """A choice holds from the next turn on, without a restart and over one, until it is taken back."""
    core.config = AgentConfig(model="small", effort="low")
    async with serving(core, tmp_path, well) as running:
        await idle(core)
        assert running.desk.snapshot()["models"] == ["small", "large"]
        await running.desk.choose("large", "high")
        assert (running.desk.snapshot()["model"], running.desk.snapshot()["effort"]) == ("large", "high")
        await core.deliver("x")
        await core.until(lambda: core.acknowledged() == [1])
        assert running.backend.asked == ["choose large high"]
        await running.end()
    async with serving(core, tmp_path, well) as again:
        await core.deliver("y")
        await core.until(lambda: core.acknowledged() == [1, 2])
        assert again.backend.asked == ["choose large high"]
        await again.desk.choose(None, None)
        await core.deliver("z")
        await core.until(lambda: core.acknowledged() == [1, 2, 3])
        assert again.backend.asked == ["choose large high", "choose small low"]
    (tmp_path / "conversation.json").write_text('{"backend": "scripted", "model": 5}')
    async with serving(core, tmp_path, well) as damaged:
        await core.until(lambda: len(core.hellos) == 3)
        await idle(core)
        assert damaged.desk.snapshot()["model"] == "small"


async def test_a_restarted_backend_is_told_the_choice_again(core: FakeCore, tmp_path: Path) -> None:
    """A backend that is opened anew after a failure knows no choices."""
    await core.deliver("x")

    async def crashes(turn: Turn) -> TurnOutcome:
        return Failed("crashed", "gone") if turn.attempt == 1 else Ok()

    async with serving(core, tmp_path, crashes) as running:
        await running.until(lambda: running.controls)
        await running.desk.choose("large", None)
        await core.until(core.acknowledged)
        assert [asked for asked in running.backend.asked if asked.startswith("choose")][-1] == "choose large None"
        assert running.opened == 2


@pytest.mark.parametrize("model", ["", "x" * 201, "a\nb", "\x1b[2J", "\ud800"])
async def test_what_is_no_model(core: FakeCore, tmp_path: Path, model: str) -> None:
    """A name that no model has is refused, in words."""
    async with serving(core, tmp_path, well) as running:
        await idle(core)
        with pytest.raises(ActionNotPossible, match="1 to 200 characters"):
            await running.desk.choose(model, None)


# --- a backend that is in trouble -------------------------------------------------------------------------------


async def test_a_backend_that_cannot_be_opened_again(core: FakeCore, tmp_path: Path) -> None:
    """If the backend does not open after a failure, the harness stays, and goes on with the one of before."""
    await core.deliver("x")

    async def crashes(turn: Turn) -> TurnOutcome:
        running.open_fails = turn.attempt == 1
        return Failed("crashed", "gone") if turn.attempt == 1 else Ok()

    async with serving(core, tmp_path, crashes) as running:
        await core.until(lambda: core.acknowledged() == [1])
        assert running.opened == 2
        assert running.backend.attempts == [(1, 1), (1, 2)]


async def test_a_backend_that_does_not_answer_requests(
    core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a backend is asked between turns has a limit, and its failure stops nothing."""
    monkeypatch.setattr(conversation, "_REQUEST_SECONDS", 0.01)

    async def never(*_values: object) -> None:
        await asyncio.Event().wait()

    async with serving(core, tmp_path, well) as running:
        await idle(core)
        running.backend.new_session = running.backend.choose = never  # type: ignore[method-assign, assignment]
        await running.desk.new_session()
        await running.desk.choose("large", None)
        await core.deliver("x")
        await core.until(lambda: core.acknowledged() == [1])
