"""Turns that the end of the harness interrupts: its next life goes on with them, as the same turns."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from hive_agent.backends.base import Failed, Ok, Turn, TurnOutcome
from hive_agent.backends.transcript import TokenUsage, ToolCall, TranscriptText
from hive_core.protocol import AgentConfig, ScriptRule, ScriptSend
from tests.unit.agent.backends.fake_backend import forever, serving, well
from tests.unit.agent.fake_core_api import FakeCore, refusal
from tests.unit.agent.test_main import harness


def kept(state: Path) -> dict[int, dict[str, Any]]:
    """The turns on disk, by number, as they were written last."""
    lines = (state / "turns" / "index.jsonl").read_text().splitlines()
    return {turn["id"]: turn for turn in map(json.loads, lines)}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_turn_survives_its_harness(core: FakeCore, tmp_path: Path, number: signal.Signals) -> None:
    """However the harness ends in a turn: the next one makes another attempt of it, under the same number, and all its
    messages are handled together, once.
    """
    core.config = AgentConfig(script=[ScriptRule(think=60.0)])
    ids = [await core.deliver("x"), await core.deliver("y", "ada")]
    async with harness(core, tmp_path) as process:
        await core.until(lambda: "thinking" in core.state_names())
        process.send_signal(number)
        async with asyncio.timeout(20):
            await process.wait()
    assert kept(tmp_path)[1]["state"] in ("running", "waiting")
    core.config = AgentConfig(script=[ScriptRule(send=[ScriptSend(to="ada", text="done")])])
    async with harness(core, tmp_path):
        await core.until(lambda: core.acknowledged() == ids and core.state_names()[-1:] == ["idle"])
    turns = kept(tmp_path)
    assert list(turns) == [1]
    assert (turns[1]["attempt"], turns[1]["state"], turns[1]["settled"]) == (2, "ok", True)
    assert [ref["id"] for ref in turns[1]["messages"]] == ids
    assert len(core.sent) == 2


async def test_what_an_interrupted_turn_did_is_known(core: FakeCore, tmp_path: Path) -> None:
    """The next life shows what happened before, counts it, and numbers go on."""
    await core.deliver("x")

    async def begins(turn: Turn) -> TurnOutcome:
        life.backend.emit(TranscriptText("begun"))
        life.backend.emit(ToolCall("1", "Bash", {}))
        life.backend.emit(TokenUsage(input=5, output=1, cost_usd=0.5))
        told.set()
        return await forever(turn)

    told = asyncio.Event()
    async with serving(core, tmp_path, begins) as life:
        await told.wait()
        await life.end()
        interrupted = life.told("turn", id=1)[-1]
        assert (interrupted["state"], interrupted["detail"]) == (
            "waiting",
            "the harness stopped during the turn",
        )

    async def goes_on(_turn: Turn) -> TurnOutcome:
        next_life.backend.emit(TokenUsage(input=5, output=1, cost_usd=0.5))
        return Ok()

    async with serving(core, tmp_path, goes_on) as next_life:
        done = await next_life.turn(1, "ok")
        assert (done["attempt"], done["tool_calls"], done["tokens_in"], done["cost_usd"]) == (2, 1, 10, 1.0)
        entries = await next_life.desk.transcript(1)
        assert [entry["n"] for entry in entries] == list(range(1, len(entries) + 1))
        assert [entry["attempt"] for entry in entries if entry["kind"] == "usage"] == [1, 2]


async def test_a_turn_that_ended_well_is_not_repeated(core: FakeCore, tmp_path: Path) -> None:
    """If the harness is killed between a turn's good end and its acknowledgement, the next one only acknowledges."""
    number = await core.deliver("x")
    core.refusals["POST /v1/messages/ack"] = refusal(503, "database_busy", "not now")
    async with serving(core, tmp_path, well) as life:
        await core.until(lambda: "POST /v1/messages/ack" in core.calls)
        life.task.cancel()
        await asyncio.gather(life.task, return_exceptions=True)
    core.refusals.clear()
    later = await core.deliver("y")
    async with serving(core, tmp_path, well) as next_life:
        await core.until(lambda: core.acknowledged() == [number, later])
        assert next_life.backend.turns == [[later]]
        assert [(turn["id"], turn["state"]) for turn in await next_life.desk.history(None, 9)] == [(2, "ok"), (1, "ok")]


async def test_a_turn_of_another_hive_is_closed(core: FakeCore, tmp_path: Path) -> None:
    """A turn whose messages the hive does not know any more is closed, and a message that has the number of one of
    them but is another is not taken for it.
    """
    await core.deliver("x")

    async def fails(_turn: Turn) -> TurnOutcome:
        return Failed("crashed", "gone")

    async with serving(core, tmp_path, fails, pause=lambda *_values: 3_600.0) as life:
        await life.turn(1, "waiting")
        await life.end()
    core.messages.clear()
    core._next = 1
    number = await core.deliver("something else")
    async with serving(core, tmp_path, well) as next_life:
        await core.until(lambda: core.acknowledged() == [number])
        assert next_life.backend.attempts == [(2, 1)]
        await next_life.until(lambda: next_life.told("turn", id=1, state="ok"))


async def test_it_is_not_forgotten_how_a_turn_failed(core: FakeCore, tmp_path: Path) -> None:
    """A conversation is shortened once for a turn, also if the harness was started anew meanwhile."""
    await core.deliver("x")

    async def too_long(_turn: Turn) -> TurnOutcome:
        return Failed("too_long", "does not fit")

    async with serving(core, tmp_path, too_long, pause=lambda *_values: 3_600.0) as life:
        await core.until(lambda: "paused" in core.state_names())
        assert life.backend.asked.count("compact") == 1
        await life.end()
    async with serving(core, tmp_path, too_long, pause=lambda *_values: 3_600.0) as next_life:
        await core.until(lambda: core.state_names().count("paused") == 2)
        assert "compact" not in next_life.backend.asked
        assert next_life.backend.attempts == [(1, 3)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_turn_that_ends_its_harness_is_held(core: FakeCore, tmp_path: Path, number: signal.Signals) -> None:
    """A message whose turn ends the harness three times waits for the operator, who is told; others are handled."""
    core.config = AgentConfig(script=[ScriptRule(match="bad", think=60.0)])
    core.crashed = True
    bad = await core.deliver("bad", "ada")
    for life in range(1, 4):
        async with harness(core, tmp_path) as process:
            await core.until(lambda life=life: core.state_names().count("thinking") == life)  # type: ignore[misc]
            process.send_signal(number)
            async with asyncio.timeout(20):
                await process.wait()
    later = await core.deliver("fine", "bob")
    async with harness(core, tmp_path):
        await core.until(lambda: core.acknowledged() == [later])
    assert core.messages[bad].holder is not None
    turn = kept(tmp_path)[1]
    assert (turn["state"], turn["attempt"], turn["interrupted"], turn["failure"]) == ("held", 3, 3, "interrupted")
    assert ["ended in 3 attempts" in state.detail for state in core.states if state.state == "paused"] == [True]


@pytest.mark.parametrize(
    ("crashed", "counted", "state"), [(False, 2, "ok"), (True, 10**15, "held"), (True, -1, "ok"), (True, "x", "ok")]
)
async def test_counted_interruptions(
    core: FakeCore, tmp_path: Path, crashed: bool, counted: object, state: str
) -> None:
    """Ends on request count nothing, and a count that the agent has changed breaks nothing."""
    number = await core.deliver("x")
    async with serving(core, tmp_path, forever) as life:
        await life.backend.started.wait()
        await life.end()
    turn = kept(tmp_path)[1] | {"interrupted": counted}
    (tmp_path / "turns" / "index.jsonl").write_text(json.dumps(turn, separators=(",", ":")) + "\n")
    core.crashed = crashed
    async with serving(core, tmp_path, well) as next_life:
        if state == "held":
            await next_life.until(lambda: next_life.told("turn", id=1, state="held"))
            await next_life.desk.retry(1)
        await core.until(lambda: core.acknowledged() == [number])
