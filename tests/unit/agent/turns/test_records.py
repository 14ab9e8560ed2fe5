"""Messages, records and limits of a turn: the harness against the fake of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hive_agent.backends.base import Failed, Ok, Turn, TurnOutcome
from hive_agent.backends.transcript import Notice, SessionStarted, TokenUsage, ToolCall, ToolResult, TranscriptText
from hive_agent.client import fetched_messages
from hive_agent.prompts import turn_prompt
from hive_agent.turns import inbox as inbox_module
from hive_agent.turns.selection import MOST_MORE
from hive_core.protocol import AgentConfig
from tests.unit.agent.backends.fake_backend import INSTANCE, Running, forever, serving, well
from tests.unit.agent.fake_core_api import FakeCore, refusal


def entries(running: Running, turn: int) -> list[Mapping[str, Any]]:
    return running.told("entry", turn=turn)


# --- what is in a turn ------------------------------------------------------------------------------------------


async def test_actionable_first(core: FakeCore, tmp_path: Path) -> None:
    """A turn takes all that waits, up to ten; in its prompt the operator's messages come first, the rest by age."""
    bodies = ["of ada", "of system", "please stop", "of bob", "and say why"]
    senders = ["ada", "system", "operator", "bob", "operator"]
    prompts: list[str] = []

    async def reads(turn: Turn) -> TurnOutcome:
        prompts.append(turn_prompt.render(turn.deliveries, tmp_path / "bodies"))
        return Ok()

    for body, sender in zip(bodies, senders, strict=True):
        await core.deliver(body, sender)
    async with serving(core, tmp_path, reads) as running:
        await core.until(lambda: len(core.acknowledged()) == 5)
        assert running.backend.turns == [[1, 2, 3, 4, 5]]
    places = [
        prompts[0].index(f"\n{body}\n") for body in ("please stop", "and say why", "of ada", "of system", "of bob")
    ]
    assert places == sorted(places)


async def test_messages_join_a_running_turn(core: FakeCore, tmp_path: Path) -> None:
    """What comes while a turn runs is offered to it, belongs to it, and is acknowledged when it ended well."""
    first = await core.deliver("x")
    joined: list[int] = []

    async def asks(turn: Turn) -> TurnOutcome:
        assert turn.more is not None
        assert list(await turn.more()) == []
        later = [await core.deliver("y", "ada"), await core.deliver("z")]
        joined.extend(delivery.id for delivery in await turn.more())
        assert joined == later
        assert core.acknowledged() == []
        assert all(core.messages[number].holder == INSTANCE for number in later)
        return Ok()

    async with serving(core, tmp_path, asks) as running:
        done = await running.turn(1, "ok")
        await core.until(lambda: core.acknowledged() == [first, *joined])
        assert running.backend.turns == [[first]]
        assert done["messages"] == [first, *joined]
        assert done["senders"] == ["operator", "ada"]


async def test_messages_of_a_failed_turn_come_back(core: FakeCore, tmp_path: Path) -> None:
    """What joined a turn that failed is handed back with the rest, and is a part of its next attempt."""
    first = await core.deliver("x")

    async def fails_once(turn: Turn) -> TurnOutcome:
        if turn.attempt == 1 and turn.more is not None:
            await core.deliver("y")
            await turn.more()
            return Failed("crashed", "gone")
        return Ok()

    async with serving(core, tmp_path, fails_once) as running:
        await core.until(lambda: core.acknowledged() == [first, 2])
        assert running.backend.turns == [[first], [first, 2]]
        assert running.backend.attempts == [(1, 1), (1, 2)]


async def test_a_turn_takes_only_so_much_more(core: FakeCore, tmp_path: Path) -> None:
    """A flood does not keep a turn going for ever: what is too much makes turns of its own."""
    await core.deliver("x")
    got: list[int] = []

    async def greedy(turn: Turn) -> TurnOutcome:
        if turn.id == 1 and turn.more is not None:
            for _ in range(2 * MOST_MORE):
                await core.deliver("y")
            while more := await turn.more():
                got.append(len(more))
        return Ok()

    async with serving(core, tmp_path, greedy):
        await core.until(lambda: len(core.acknowledged()) == 1 + 2 * MOST_MORE)
    assert sum(got) == MOST_MORE
    assert max(got) <= 10


async def test_a_hive_that_is_silent_does_not_hold_up_a_turn(
    core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If nothing is heard of what came meanwhile, the turn ends without, and never takes a later message instead."""
    monkeypatch.setattr(inbox_module, "_MORE_SECONDS", 0.0)
    first = await core.deliver("x")
    offered: list[int] = []

    async def asks(turn: Turn) -> TurnOutcome:
        assert turn.more is not None
        if turn.id == 1:
            await core.deliver("y")
            offered.append(len(await turn.more()))
            monkeypatch.setattr(inbox_module, "_MORE_SECONDS", 5.0)
            await core.deliver("z")
            offered.append(len(await turn.more()))
        return Ok()

    async with serving(core, tmp_path, asks) as running:
        await core.until(lambda: core.acknowledged() == [first, 2, 3])
        assert running.backend.turns == [[first], [2, 3]]
    assert offered == [0, 0]


async def test_what_was_not_fetched_is_no_hindrance(core: FakeCore, tmp_path: Path) -> None:
    """If the agent wrote of messages that it never got, its turn's own are acknowledged all the same, and at once."""
    number = await core.deliver("x")
    core.refuse_ack = lambda ids: refusal(404, "unknown_message", "no such message") if 999 in ids else None

    async def lies(_turn: Turn) -> TurnOutcome:
        fetched_messages.record(tmp_path, INSTANCE, [999])
        return Ok()

    async with serving(core, tmp_path, lies) as running:
        await core.until(lambda: core.acknowledged() == [number] and core.state_names()[-1:] == ["idle"])
        assert running.backend.turns == [[number]]
    assert core.state_names() == ["idle", "thinking", "idle"]


# --- what is known of it ----------------------------------------------------------------------------------------


async def test_a_turn_is_counted(core: FakeCore, tmp_path: Path) -> None:
    """Start, end, outcome, attempts, tokens, cost and tool calls of a turn are told as they change, and in the end."""
    number = await core.deliver("x")

    async def works(turn: Turn) -> TurnOutcome:
        emit = running.backend.emit
        emit(SessionStarted("s", fresh=turn.attempt == 1))
        emit(ToolCall("1", "send", {"to": "ada"}))
        emit(ToolResult("1", "sent", False, 4))
        emit(TokenUsage(input=10, output=3, cache_read=5, cache_write=1, cost_usd=0.25, context=19, window=200))
        if turn.attempt == 1:
            return Failed("overloaded", "busy")
        emit(TokenUsage(input=1, output=1, cost_usd=None))
        return Ok()

    async with serving(core, tmp_path, works) as running:
        done = await running.turn(1, "ok")
        assert (done["attempt"], done["messages"], done["failure"]) == (2, [number], None)
        assert (done["tokens_in"], done["tokens_out"], done["tool_calls"]) == (33, 7, 2)
        assert done["cost_usd"] == pytest.approx(0.5)
        assert isinstance(done["started_at"], float) and isinstance(done["ended_at"], float)
        assert done["started_at"] <= done["ended_at"]
        now = running.desk.snapshot()
        assert (now["turns"], now["tokens_in"], now["tokens_out"]) == (1, 33, 7)
        assert now["cost_usd"] == pytest.approx(0.5)
        assert (now["context"], now["window"]) == (0, 200)
        assert [turn["id"] for turn in await running.desk.history(None, 10)] == [1]


async def test_everything_told_is_published_and_kept(core: FakeCore, tmp_path: Path) -> None:
    """The messages, and what a backend tells, are published in order, numbered over all attempts, and kept."""
    await core.deliver("x")

    async def talks(turn: Turn) -> TurnOutcome:
        running.backend.emit(TranscriptText(f"attempt {turn.attempt}"))
        running.backend.emit(Notice("info", "\ud800 half a character \x1b[2J <script>"))
        return Failed("refused", "\ud800") if turn.attempt == 1 else Ok()

    async with serving(core, tmp_path, talks) as running:
        await running.turn(1, "ok")
        told = entries(running, 1)
        assert [(entry["attempt"], entry["n"]) for entry in told] == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
        kept = await running.desk.transcript(1)
        assert [entry["text"] for entry in kept] == [entry["text"] for entry in told]
        assert [entry["kind"] for entry in kept] == ["message", *["text", "notice"] * 2]
        assert await running.desk.transcript(2) == []


@pytest.mark.parametrize("number", [10**30, -(10**30)])
async def test_nonsense_is_counted_within_bounds(core: FakeCore, tmp_path: Path, number: int) -> None:
    """Numbers that no turn takes, told by a broken program, neither stop the harness nor spoil what is kept."""
    await core.deliver("x")

    async def tells(_turn: Turn) -> TurnOutcome:
        running.backend.emit(
            TokenUsage(number, number, number, number, float(number), context=number, window=abs(number))
        )
        running.backend.emit(TokenUsage(cost_usd=float("nan")))
        return Ok()

    async with serving(core, tmp_path, tells) as running:
        await running.turn(1, "ok")
        await core.until(core.acknowledged)
        await running.end()
    async with serving(core, tmp_path, well) as again:
        await core.until(
            lambda: core.calls.count("POST /v1/harness/hello") == 2 and core.state_names()[-1:] == ["idle"]
        )
        found = await again.desk.history(None, 10)
        assert [(turn["id"], turn["state"]) for turn in found] == [(1, "ok")]
        assert 0 <= found[0]["tokens_in"] <= 2**53


# --- limits -----------------------------------------------------------------------------------------------------


async def test_max_steps(core: FakeCore, tmp_path: Path) -> None:
    """A turn is stopped before it asks the model more often than it may, and its process with it."""
    core.config = AgentConfig(max_steps=3)
    await core.deliver("x")
    told = 0

    async def loops(_turn: Turn) -> TurnOutcome:
        nonlocal told
        while True:
            told += 1
            running.backend.emit(ToolCall(str(told), "Bash", {}))
            running.backend.emit(TokenUsage(input=1))
            running.backend.emit(ToolResult(str(told), "", False, 0))
            await asyncio.sleep(0)

    async with serving(core, tmp_path, loops, pause=lambda *_values: 3_600.0) as running:
        stopped = await running.turn(1, "waiting")
        assert stopped["failure"] == "steps"
        assert "max_steps" in str(stopped["detail"])
        assert running.backend.cancelled == 1
        assert told <= 4


async def test_max_steps_allows_as_many(core: FakeCore, tmp_path: Path) -> None:
    """A turn that takes exactly as many model calls as it may ends well."""
    core.config = AgentConfig(max_steps=3)
    await core.deliver("x")

    async def three(_turn: Turn) -> TurnOutcome:
        for number in range(3):
            if number:
                running.backend.emit(ToolResult(str(number), "", False, 0))
            running.backend.emit(TokenUsage(input=1))
            await asyncio.sleep(0)
        return Ok()

    async with serving(core, tmp_path, three) as running:
        await running.turn(1, "ok")


async def test_a_turn_out_of_time_is_tried_again_as_the_same(core: FakeCore, tmp_path: Path) -> None:
    """A turn beyond turn_timeout is stopped, and what it did so far is in its record."""
    core.config = AgentConfig(turn_timeout=0.05)
    await core.deliver("x")

    async def slow(turn: Turn) -> TurnOutcome:
        running.backend.emit(ToolCall("1", "Bash", {}))
        return await forever(turn) if turn.attempt == 1 else Ok()

    async with serving(core, tmp_path, slow) as running:
        waited = await running.turn(1, "waiting")
        assert (waited["failure"], waited["tool_calls"]) == ("timeout", 1)
        done = await running.turn(1, "ok")
        assert done["attempt"] == 2
        assert running.backend.cancelled == 1


async def test_a_backend_that_cancels_itself_has_failed(core: FakeCore, tmp_path: Path) -> None:
    """A cancellation that nobody asked for does not end the harness."""
    number = await core.deliver("x")

    async def gives_up(turn: Turn) -> TurnOutcome:
        if turn.attempt == 1:
            raise asyncio.CancelledError
        return Ok()

    async with serving(core, tmp_path, gives_up) as running:
        assert (await running.turn(1, "waiting"))["failure"] == "internal"
        await core.until(lambda: core.acknowledged() == [number])
