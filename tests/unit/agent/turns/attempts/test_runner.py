"""Reports of a harness while a turn runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hive_agent.backends.base import Failed, Ok, Turn, TurnOutcome
from hive_agent.backends.transcript import Notice, TranscriptText
from tests.unit.agent.backends.fake_backend import Running, serving
from tests.unit.agent.fake_core_api import FakeCore

REFUSED = "the model's API failed: 401 invalid x-api-key"


def refuse(running: Running, attempt: int) -> None:
    """The agent CLI of the running turn tells of a failed call that it repeats."""
    running.backend.emit(Notice("warning", REFUSED, repeat=attempt))


def shown(running: Running) -> tuple[object, object]:
    """The state and its detail on the page."""
    last = running.told("state")[-1]
    return last["state"], last["detail"]


async def test_a_repeated_call_is_reported_while_it_is_repeated(
    core: FakeCore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the agent CLI repeats a failed call, the hive, the page and the log have the reason, the time of the first
    failure and the number of attempts; the next answer ends that.
    """
    seen: list[tuple[object, object]] = []

    async def run(_turn: Turn) -> TurnOutcome:
        refuse(running, 1)
        await core.until(lambda: REFUSED in core.states[-1].detail)
        refuse(running, 2)
        await core.until(lambda: core.states[-1].detail.endswith("attempt 2)"))
        seen.append(shown(running))
        running.backend.emit(TranscriptText("Here I am."))
        await core.until(lambda: core.states[-1].detail == "1 message")
        seen.append(shown(running))
        return Ok()

    caplog.set_level(logging.WARNING)
    async with serving(core, tmp_path, run) as running:
        number = await core.deliver("x")
        await core.until(lambda: core.acknowledged() == [number])
    first, second = (state.detail for state in core.states if REFUSED in state.detail)
    since = first.removeprefix(f"{REFUSED} (repeating since ").removesuffix(" UTC, attempt 1)")
    assert len(since) == len("12:31:05")
    assert second == f"{REFUSED} (repeating since {since} UTC, attempt 2)"
    assert {state.state for state in core.states if REFUSED in state.detail} == {"thinking"}
    assert seen == [("thinking", second), ("thinking", "1 message")]
    assert [record.getMessage() for record in caplog.records if REFUSED in record.getMessage()] == [
        f"{REFUSED} (attempt 1)",
        f"{REFUSED} (attempt 2)",
    ]


async def test_the_end_of_a_turn_is_reported_after_its_repeats(core: FakeCore, tmp_path: Path) -> None:
    """The state after a turn that ended while a call was repeated is the last report, however quickly it ended."""

    async def run(_turn: Turn) -> TurnOutcome:
        refuse(running, 1)
        return Failed("billing", "no credit")

    async with serving(core, tmp_path, run) as running:
        await core.deliver("x")
        await core.until(lambda: core.state_names()[-1:] == ["paused"])
        assert core.states[-1].detail == "no credit"
        assert shown(running) == ("paused", "no credit")
        assert REFUSED in core.states[-2].detail
