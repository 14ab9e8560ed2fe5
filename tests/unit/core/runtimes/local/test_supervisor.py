"""The supervisor's promises, with harnesses that end when the test says so."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hive_core.runtimes.base import AgentSpec
from hive_core.runtimes.unit_state import BackOff
from tests.unit.core.runtimes.local.local_hive import NEVER, QUICK
from tests.unit.core.runtimes.local.supervisor_bench import Bench


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, QUICK)
    yield bench
    await bench.close()


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[Bench]:
    """A bench on which nobody lives long enough to see a back-off end by itself."""
    bench = Bench(tmp_path, NEVER)
    yield bench
    await bench.close()


def test_back_off_doubles_to_its_limit() -> None:
    """Waits double from 0.5 s to 60 s, and start over after a minute of running."""
    back_off = BackOff()
    waits: list[float] = []
    delay: float | None = None
    for _ in range(9):
        delay = back_off.after(delay, ran=1)
        waits.append(delay)
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert back_off.after(60, ran=59.9) == 60
    assert back_off.after(60, ran=60) == 0.5


async def test_a_life_from_start_to_stop(slow: Bench) -> None:
    """Every step is told in order, with the process and how it ended."""
    await slow.start()
    assert (slow.supervisor.state.lifecycle, slow.supervisor.state.pid) == ("running", 1)
    assert slow.supervisor.state.started_at is not None
    await slow.supervisor.stop()
    state = slow.supervisor.state
    assert (state.lifecycle, state.pid, state.started_at, state.exit_cause) == ("stopped", None, None, "exit code 0")
    assert await slow.close() == ["starting", "running", "stopping", "stopped"]


async def test_starting_twice_runs_one(slow: Bench) -> None:
    """Starting what runs does nothing, also when both ask at once."""
    await asyncio.gather(slow.start(), slow.start())
    await slow.start()
    assert len(slow.children) == 1


async def test_a_crash_restarts(quick: Bench) -> None:
    """A harness that ends by itself is started again, and counted."""
    await quick.start()
    for restarts in (1, 2, 3):
        quick.children[-1].end.set_result("exit code 7")
        assert (await quick.until("backoff")).exit_cause == "exit code 7"
        running = await quick.until("running")
        assert (running.restarts, running.pid) == (restarts, restarts + 1)


async def test_nothing_of_an_earlier_run_is_left_in_a_later_one(quick: Bench) -> None:
    """The cause of an end is there until the next run begins, and the runs are numbered."""
    await quick.start()
    quick.children[0].end.set_result("exit code 7")
    ended = await quick.until("backoff")
    assert (ended.exit_cause, ended.pid, ended.started_at, ended.run) == ("exit code 7", None, None, 1)
    for lifecycle in ("starting", "running"):
        state = await quick.until(lifecycle)
        assert (state.exit_cause, state.run) == ("", 2)


async def test_the_last_line_before_a_crash_is_kept(quick: Bench) -> None:
    """That of the last run that has ended: empty lines do not count, and a run that printed nothing has none."""
    await quick.start()
    quick.children[0].print(b"loading\nno such key\n\n")
    quick.children[0].end.set_result("exit code 7")
    await quick.until("backoff")
    assert quick.supervisor.last_line == "no such key"
    await quick.until("running")
    assert quick.supervisor.last_line == "no such key"
    quick.children[1].end.set_result("exit code 7")
    await quick.until("backoff")
    assert quick.supervisor.last_line == ""


async def test_starting_during_back_off_starts_at_once(slow: Bench) -> None:
    """A start on request does not wait for the back-off, and forgets the crashes before."""
    await slow.start()
    slow.children[0].end.set_result("exit code 1")
    await slow.until("backoff")
    async with asyncio.timeout(30):
        await slow.start()
    assert (slow.supervisor.state.lifecycle, slow.supervisor.state.restarts) == ("running", 0)
    assert len(slow.children) == 2


async def test_stopping_during_back_off(slow: Bench) -> None:
    """An agent that waits to be restarted can be stopped, and stays stopped."""
    await slow.start()
    slow.children[0].end.set_result("exit code 1")
    await slow.until("backoff")
    async with asyncio.timeout(30):
        await slow.supervisor.stop()
    assert slow.supervisor.state.lifecycle == "stopped"
    assert slow.supervisor.state.exit_cause == "exit code 1"
    assert len(slow.children) == 1


async def test_the_stubborn_are_killed(tmp_path: Path) -> None:
    """A harness that does not stop in time is killed."""
    bench = Bench(tmp_path, NEVER, polite=False, stop_timeout=0.01)
    await bench.start()
    await bench.supervisor.stop()
    assert bench.supervisor.state.exit_cause == "killed by SIGKILL"
    await bench.close()


async def test_what_cannot_be_spawned_has_failed(slow: Bench) -> None:
    """A program that is not there is no crash: the agent fails, with the reason, and a later start tries again."""
    slow.errors.append(FileNotFoundError(errno.ENOENT, "gone", "/no/such/program"))
    await slow.start()
    state = slow.supervisor.state
    assert state.lifecycle == "failed"
    assert state.exit_cause == "cannot be started: No such file or directory: /no/such/program"
    await slow.start()
    assert slow.supervisor.state.lifecycle == "running"


async def test_a_passing_shortage_is_tried_again(quick: Bench) -> None:
    """A machine short of processes, memory or descriptors is a reason to wait, not to give up."""
    shortages = [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE]
    quick.errors += [OSError(number, "short") for number in shortages]
    quick.errors += [TimeoutError("too slow"), MemoryError(), RuntimeError("can't start new thread")]
    await quick.start()
    assert (await quick.until("backoff")).exit_cause.startswith("cannot be started: ")
    assert (await quick.until("running")).restarts == 7


async def test_a_failed_agent_can_be_stopped(slow: Bench) -> None:
    """Stopping what has failed makes it stopped, and keeps the reason."""
    slow.errors.append(PermissionError(errno.EACCES, "no"))
    await slow.start()
    await slow.supervisor.stop()
    assert slow.supervisor.state.lifecycle == "stopped"
    assert "Permission denied" in slow.supervisor.state.exit_cause


async def test_a_defect_is_not_silent(slow: Bench) -> None:
    """An error that nobody foresaw makes the agent failed, in words; it does not hang in starting."""
    slow.errors.append(RuntimeError("a defect"))
    async with asyncio.timeout(30):
        await slow.start()
    assert slow.supervisor.state.lifecycle == "failed"
    assert "a defect" in slow.supervisor.state.exit_cause


async def test_a_stop_whose_caller_went_away_goes_on(tmp_path: Path) -> None:
    """A cancelled stop still stops; a start after it waits for its end and then starts anew."""
    bench = Bench(tmp_path, NEVER, polite=False)
    await bench.start()
    stopping = asyncio.create_task(bench.supervisor.stop())
    await bench.until("stopping")
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    starting = asyncio.create_task(bench.start())
    await asyncio.sleep(0)
    assert len(bench.children) == 1
    bench.children[0].end.set_result("exit code 0")
    async with asyncio.timeout(30):
        await starting
    assert len(bench.children) == 2
    bench.children[1].end.set_result("exit code 0")
    await bench.close()


async def test_a_start_takes_the_new_spec(slow: Bench) -> None:
    """What an agent is to be run with may change between two starts."""
    await slow.start()
    await slow.supervisor.stop()
    changed = AgentSpec("ada", "agent", slow.spec.paths, slow.spec.log, {"NEW": "1"})
    await slow.supervisor.start(changed)
    assert slow.specs[-1] is changed
