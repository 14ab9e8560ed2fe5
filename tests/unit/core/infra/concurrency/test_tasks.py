"""Background tasks, and work that must not be left half done."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import BackgroundTasks, finish_detached, shield_to_completion


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits(fails: bool) -> None:
    """A cancelled caller ends after the work; a failure of the work is logged, because no caller gets it."""
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        ended.set()
        if fails:
            raise ValueError("no room")

    with capture_logs() as logs:
        caller = asyncio.create_task(shield_to_completion(work()))
        await begun.wait()
        caller.cancel()
        assert (await asyncio.wait([caller], timeout=0))[1] and not ended.is_set()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert ended.is_set()
    assert [str(entry["exc_info"]) for entry in logs] == (["no room"] if fails else [])


async def test_an_expected_error_is_logged_without_a_traceback() -> None:
    """A refusal after the caller was cancelled, such as that the daemon stops, is logged with its code and message."""
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.sleep(0.01)
        raise HiveError("stopping", "the hive is stopping")

    with capture_logs() as logs:
        caller = asyncio.create_task(shield_to_completion(work()))
        await begun.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    (entry,) = logs
    assert (entry["log_level"], entry["code"], entry["error"]) == ("warning", "stopping", "the hive is stopping")
    assert "exc_info" not in entry


async def test_a_failure_after_the_caller_has_gone_is_logged() -> None:
    """Work goes on though its caller does not wait, and its refusal is a line of the log, not a lost exception."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        raise HiveError("unknown_agent", "there is no agent 'ada'")

    task = asyncio.create_task(work())
    with capture_logs() as logs:
        caller = asyncio.create_task(finish_detached(task))
        await begun.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert not task.done()
        may_end.set()
        await asyncio.wait([task])
        await asyncio.sleep(0)  # The callbacks of the task.
    (entry,) = logs
    assert (entry["log_level"], entry["code"]) == ("warning", "unknown_agent")


async def test_an_answer_or_an_error_is_passed_on() -> None:
    """A caller that is not cancelled gets the result or the error of the work."""

    async def work(fails: bool) -> int:
        if fails:
            raise ValueError("no room")
        return 7

    assert await shield_to_completion(work(False)) == 7
    with pytest.raises(ValueError, match="no room"):
        await shield_to_completion(work(True))


async def test_closing_ends_all_tasks() -> None:
    """`close` cancels every task, and returns only when each has ended."""
    started, cleaned_up = [asyncio.Event(), asyncio.Event()], []

    async def work(number: int) -> None:
        started[number].set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned_up.append(number)

    tasks = BackgroundTasks()
    running = [tasks.start(work(number), name=f"work {number}") for number in range(2)]
    for event in started:
        await event.wait()
    with capture_logs() as logs:
        await tasks.close()
    assert all(task.cancelled() for task in running) and sorted(cleaned_up) == [0, 1]
    assert logs == [] and running[0].get_name() == "work 0"


async def test_failures_in_the_background_are_logged() -> None:
    """A task that fails is logged with its name and its error, and does not disturb the others or `close`."""

    async def fail() -> None:
        raise ValueError("no room")

    tasks = BackgroundTasks()
    with capture_logs() as logs:
        await asyncio.wait([tasks.start(fail(), name="the failing one")])
        await tasks.close()
    assert [(entry["task"], str(entry["exc_info"])) for entry in logs] == [("the failing one", "no room")]
