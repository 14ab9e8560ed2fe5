"""Whether a deployment came up: what counts as healthy, and what ends the wait early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hive_core.layout import Layout
from hive_core.protocol import HarnessState
from hive_core.runtimes.base import UnitState
from tests.unit.core.agents.builders import Hive, in_force, opened

LONG = 100.0
PROMPT = 10


async def no_log(_name: str) -> list[str]:
    return []


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[Hive]:
    """A hive with bob, on deployment 1."""
    async with opened(Layout(tmp_path / "state", tmp_path / "run")) as hive:
        await hive.spawn("bob")
        await hive.agents.deploy("bob", in_force(1))
        following = asyncio.create_task(hive.reports.follow(hive.processes.watch(), no_log))
        yield hive
        following.cancel()
        await asyncio.wait([following])


async def waiting(hive: Hive, seconds: float = LONG) -> asyncio.Task[str]:
    """Somebody who waits for deployment 1, and has found nothing yet."""
    task = asyncio.create_task(hive.agents.wait_healthy("bob", 1, seconds))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def answer(task: asyncio.Task[str]) -> str:
    async with asyncio.timeout(PROMPT):
        return await task


@pytest.mark.parametrize("state", ["idle", "thinking", "needs_login", "paused"])
async def test_a_harness_that_can_work_is_healthy(hive: Hive, state: HarnessState) -> None:
    """It says hello with the deployment's number and then that it is ready, whatever the agent CLI still lacks."""
    task = await waiting(hive)
    await hive.report("bob", 1)
    await asyncio.sleep(0)
    assert not task.done()
    await hive.report("bob", 1, state)
    assert await answer(task) == ""


async def test_what_was_reported_before_the_wait_counts(hive: Hive) -> None:
    """A harness that is quicker than whoever waits for it is healthy all the same."""
    await hive.report("bob", 1, "idle")
    assert await hive.agents.wait_healthy("bob", 1, 0) == ""


async def test_what_was_said_before_the_deployment_does_not_count(hive: Hive) -> None:
    """A harness cannot vouch for the deployment that is to replace it, nor one life for the next."""
    await hive.report("bob", 2, "idle")
    await hive.agents.deploy("bob", in_force(2))
    assert "did not report in" in await hive.agents.wait_healthy("bob", 2, 0)
    await hive.reports.harness("bob", "idle", "")  # The old one's last word.
    assert "did not report in" in await hive.agents.wait_healthy("bob", 2, 0)


@pytest.mark.parametrize(
    ("deployment", "states", "why"),
    [
        (0, ["idle"], "its harness reported in with deployment 0 instead of 1"),
        (None, ["idle"], "its harness reported in without saying which deployment it runs"),
        (1, [], "its harness reported in, but not that it is ready"),
        (1, ["failed"], "its harness reported that it failed: no model"),
    ],
)
async def test_what_is_missing_is_told_when_the_time_is_up(
    hive: Hive, deployment: int | None, states: list[HarnessState], why: str
) -> None:
    """Whoever reads why a deployment failed learns how far it came, and how long that was waited for."""
    await hive.report("bob", deployment, *states)
    assert await hive.agents.wait_healthy("bob", 1, 0.01) == f"{why} (waited 0.01 seconds)"


async def test_a_harness_may_recover_in_time(hive: Hive) -> None:
    """A first failure is not the end: what it says last within the time is what counts."""
    await hive.report("bob", 1, "failed")
    task = await waiting(hive)
    await hive.reports.harness("bob", "idle", "")
    assert await answer(task) == ""


async def test_an_agent_that_failed_for_good_is_told_at_once(hive: Hive) -> None:
    """Nobody waits out the time for a harness that is not started again."""
    task = await waiting(hive)
    hive.processes.fail(UnitState("bob", "failed", exit_cause="cannot be started: No such file or directory"))
    assert await answer(task) == "it failed: cannot be started: No such file or directory"


async def test_crashes_are_told_with_the_time_out(hive: Hive) -> None:
    """A harness that crashes gets the whole time to come up; if it does not, its last end is named."""
    hive.processes.fail(UnitState("bob", "backoff", exit_cause="exit code 1"))
    why = await hive.agents.wait_healthy("bob", 1, 0.01)
    assert why.startswith("its harness did not report in") and why.endswith("the last time with: exit code 1")


async def test_a_stop_or_a_destroy_ends_the_wait(hive: Hive) -> None:
    """What the operator does meanwhile is told at once, and is not mistaken for a failure to start."""
    task = await waiting(hive)
    await hive.agents.stop("bob", "operator")
    assert await answer(task) == "it was stopped"
    await hive.agents.start("bob", "operator")
    task = await waiting(hive)
    await hive.agents.destroy("bob", "operator", purge=False)
    assert await answer(task) == "it was destroyed"


async def test_another_deployment_ends_the_wait(hive: Hive) -> None:
    """The wait is for one deployment, not for whatever comes after it."""
    task = await waiting(hive)
    await hive.agents.deploy("bob", in_force(2))
    await hive.report("bob", 2, "idle")
    assert await answer(task) == "deployment 2 took its place"


async def test_a_new_agent_of_the_name_starts_with_nothing_said(hive: Hive) -> None:
    """What the harness of a destroyed agent said does not make its successor healthy."""
    await hive.report("bob", 1, "idle")
    await hive.agents.destroy("bob", "operator", purge=False)
    await hive.agents.create("bob", in_force(1), start=True, actor="operator")
    assert "did not report in" in await hive.agents.wait_healthy("bob", 1, 0)
