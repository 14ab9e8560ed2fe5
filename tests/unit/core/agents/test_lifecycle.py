"""An agent's life, where several things happen to it at once or a step of it fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hive_core.agents import lifecycle
from hive_core.errors import HiveError
from hive_core.layout import Layout
from hive_core.protocol import SendRequest
from hive_core.runtimes.base import UnitState
from tests.unit.core.agents.builders import FakeProcesses, FakeSockets, opened


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "run")


async def test_a_start_of_the_daemon_heeds_what_was_asked_meanwhile(layout: Layout) -> None:
    """What the operator stops or destroys while the agents are being started is not started after all."""
    async with opened(layout) as hive:
        for name in ("aa", "ab", "ac", "ad", "bb", "cc"):
            await hive.spawn(name)
    processes = FakeProcesses()
    async with opened(layout, processes) as hive:
        starting = asyncio.create_task(hive.lifecycle.start_wanted())
        assert {await processes.began.get() for _ in range(4)} == {"aa", "ab", "ac", "ad"}
        await hive.lifecycle.stop("bb", "operator")
        await hive.lifecycle.destroy("cc", "operator", purge=True)
        processes.held.set()
        await starting
        assert processes.running == {"aa", "ab", "ac", "ad"}


async def test_agents_are_started_side_by_side(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon with many agents starts four at a time: sooner than one by one, and not all at once."""
    monkeypatch.setattr(lifecycle, "_STARTED_AT_ONCE", 4)
    names = {f"a{number}" for number in range(12)}
    async with opened(layout) as hive:
        for name in names:
            await hive.spawn(name)
    processes = FakeProcesses()
    async with opened(layout, processes) as hive:
        starting = asyncio.create_task(hive.lifecycle.start_wanted())
        for _ in range(4):
            await processes.began.get()
        processes.held.set()
        await starting
    assert processes.running == names
    assert processes.most_at_once == 4


async def test_the_next_agents_start_when_a_harness_is_ready(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harnesses are not all loaded at once: an agent starts when one before it has reported in, or has ended."""
    monkeypatch.setattr(lifecycle, "_STARTED_AT_ONCE", 2)
    async with opened(layout) as hive:
        for name in ("aa", "bb", "cc", "dd"):
            await hive.spawn(name)
    processes = FakeProcesses()
    processes.held.set()
    async with opened(layout, processes, up_seconds=60) as hive:
        starting = asyncio.create_task(hive.lifecycle.start_wanted())
        assert {await processes.began.get() for _ in range(2)} == {"aa", "bb"}
        await hive.report("aa", None)
        assert (await asyncio.wait([starting], timeout=0.05))[1] and processes.began.empty()
        await hive.report("aa", 0, "idle")
        assert await processes.began.get() == "cc"
        processes.failed["bb"] = UnitState("bb", "backoff")
        hive.reports.health_monitor.check_again("bb")
        assert await processes.began.get() == "dd"
        await hive.report("cc", 0, "paused")
        await hive.report("dd", 0, "idle")
        async with asyncio.timeout(10):
            await starting


async def test_a_failure_to_listen_is_tried_again(layout: Layout) -> None:
    """An agent for which the daemon cannot listen, for want of open files, is heard later; the log says so once."""
    async with opened(layout) as hive:
        for name in ("ann", "bob"):
            await hive.spawn(name)
    sockets = FakeSockets(broken={"ann"})
    with capture_logs() as logs:
        async with opened(layout, sockets=sockets) as hive:
            starting = asyncio.create_task(hive.lifecycle.start_wanted())
            assert (await asyncio.wait([starting], timeout=0.05))[1]
            assert sockets.names == {"bob"} and hive.processes.running == {"ann", "bob"}
            sockets.broken.clear()
            async with asyncio.timeout(10):
                await starting
            assert sockets.names == {"ann", "bob"}
    (entry,) = (entry for entry in logs if entry["event"] == "cannot listen for agent")
    assert entry["agent"] == "ann"


async def test_a_refused_start_does_not_stop_the_others(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """One agent that cannot be started, or a daemon that begins to stop, is no failure of the daemon."""
    async with opened(layout) as hive:
        await hive.spawn("ann")
        await hive.spawn("bob")
    async with opened(layout) as hive:
        start = hive.processes.start

        async def refuse_ann(spec: object) -> None:
            if getattr(spec, "name", "") == "ann":
                raise HiveError("stopping", "the hive is stopping", status=503)
            await start(spec)  # type: ignore[arg-type]

        monkeypatch.setattr(hive.processes, "start", refuse_ann)
        await hive.lifecycle.start_wanted()
        assert hive.processes.running == {"bob"}


@pytest.mark.parametrize("purge", [False, True])
async def test_a_destroy_that_is_not_stored_changes_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, purge: bool
) -> None:
    """The agent runs on, can be written to, keeps its messages, and can be destroyed later."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        await hive.broker.send("operator", SendRequest(to="bob", body="one"))
        with monkeypatch.context() as patch:
            patch.setattr("hive_core.infra.database.audit.append", _locked)
            with pytest.raises(HiveError, match="lock"):
                await hive.lifecycle.destroy("bob", "operator", purge=purge)
        assert hive.agents.status("bob").lifecycle == "running"
        assert hive.sockets.names == {"bob"}
        await hive.broker.send("operator", SendRequest(to="bob", body="two"))
        assert hive.broker.unacknowledged("bob") == 2
        answer = await hive.lifecycle.destroy("bob", "operator", purge=purge)
        assert answer.dropped_messages == (2 if purge else 0)
        assert hive.broker.unacknowledged("bob") == (0 if purge else 2)


def _locked(*_: object, **__: object) -> None:
    raise HiveError("database_busy", "another program holds the database's lock", status=503)


async def test_a_new_agent_waits_for_the_purge_of_the_old_one(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the files of a purged agent cannot be moved away, its name is refused; then it starts with nothing."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        (layout.agent("bob").state / "secret").touch()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", _busy)
            for attempt in (hive.lifecycle.destroy("bob", "operator", purge=True), hive.spawn("bob")):
                with pytest.raises(HiveError, match="bob") as refusal:
                    await attempt
                assert (refusal.value.code, refusal.value.status) == ("agent_being_purged", 409)
        await hive.spawn("bob")
        assert list(layout.agent("bob").state.iterdir()) == []


def _busy(*_: object) -> None:
    raise OSError(16, "Device or resource busy")


async def test_one_broken_agent_does_not_stop_the_daemon(layout: Layout) -> None:
    """An agent whose directory is not one any more is known, and the others are heard and run."""
    async with opened(layout) as hive:
        await hive.spawn("ann", start=False)
        await hive.spawn("bob", start=False)
    layout.agent("ann").claude.rmdir()
    layout.agent("ann").claude.write_text("no directory")
    async with opened(layout) as hive:
        assert [status.name for status in hive.agents.statuses()] == ["ann", "bob"]
        assert "bob" in hive.sockets.names


async def test_what_was_to_be_stopped_is_stopped_by_the_next_daemon(layout: Layout) -> None:
    """Containers outlive a daemon that is killed between remembering the wish and stopping one."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        await hive.lifecycle.stop("bob", "operator")
        hive.processes.running.add("bob")
        await hive.lifecycle.start_wanted()
        assert hive.processes.running == set()
