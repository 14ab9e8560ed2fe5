"""A harness that cannot work says so before a message comes, and no longer when it can."""

from __future__ import annotations

from pathlib import Path

import pytest

from hive_agent.backends.base import Failed, NeedsLogin
from hive_agent.turns import loop
from tests.unit.agent.backends.fake_backend import Running, serving, well
from tests.unit.agent.fake_core_api import FakeCore

PROBLEMS = [
    (NeedsLogin("no key: set KEY"), "needs_login"),
    (Failed("no_program", "the program x is not installed"), "paused"),
    (Failed("config", "no such tool"), "paused"),
]


async def serving_until(core: FakeCore, running: Running, state: str) -> None:
    await core.until(lambda: core.state_names()[-1:] == [state])
    assert not running.task.done()


@pytest.mark.parametrize(("problem", "state"), PROBLEMS)
async def test_a_problem_is_reported_at_once_and_goes_when_it_is_mended(
    core: FakeCore, tmp_path: Path, problem: Failed | NeedsLogin, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a message the first report is the problem with its reason; when it is mended the harness is idle."""
    monkeypatch.setattr(loop, "FIRST_LOGIN_CHECK", 0.01)
    monkeypatch.setattr(loop, "LONGEST_LOGIN_CHECK", 0.01)
    async with serving(core, tmp_path, well) as running:
        running.backend.problem = problem
        await serving_until(core, running, state)
        assert core.states[-1].detail == problem.detail and "idle" not in core.state_names()
        running.backend.problem = None
        await serving_until(core, running, "idle")
        assert core.states[-1].detail == ""


async def test_a_turn_that_works_is_the_better_proof(core: FakeCore, tmp_path: Path) -> None:
    """A message is tried although something seems to be missing; if the turn ends well, the harness is idle."""
    async with serving(core, tmp_path, well) as running:
        running.backend.problem = NeedsLogin("no key")
        await serving_until(core, running, "needs_login")
        await core.deliver("hello")
        await serving_until(core, running, "idle")
        assert core.state_names() == ["needs_login", "thinking", "idle"]


async def test_what_a_person_does_on_the_page_is_checked_at_once(core: FakeCore, tmp_path: Path) -> None:
    """A login ends `needs_login` without a wait for the next check."""
    async with serving(core, tmp_path, well) as running:
        running.backend.problem = NeedsLogin("no key")
        await serving_until(core, running, "needs_login")
        await running.desk.log_in()
        running.backend.problem = None
        await running.desk.give_code("right")
        await serving_until(core, running, "idle")
