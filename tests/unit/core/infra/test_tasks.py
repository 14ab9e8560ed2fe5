"""Work that must not be left half done."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from hive_core.infra.tasks import shield_to_completion


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits(fails: bool) -> None:
    """The work goes on to its end before the caller does; how it failed is logged, as nobody else hears of it."""
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


async def test_an_answer_or_an_error_is_passed_on() -> None:
    """Who is not cancelled gets what the work gives."""

    async def work(fails: bool) -> int:
        if fails:
            raise ValueError("no room")
        return 7

    assert await shield_to_completion(work(False)) == 7
    with pytest.raises(ValueError, match="no room"):
        await shield_to_completion(work(True))
