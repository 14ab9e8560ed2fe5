"""How the daemon ends when it is asked to, and what it tells systemd."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.helpers.real_daemon import Daemon, running

SENDERS = 16


class Outcomes:
    """What concurrent senders were told."""

    def __init__(self) -> None:
        self.stored: set[str] = set()
        self.refused: set[str] = set()
        self.not_taken: set[str] = set()
        """The connection was refused, or ended before an answer: nobody said that the message was taken."""
        self.enough = asyncio.Event()


async def send_until_the_end(daemon: Daemon, name: str, outcomes: Outcomes) -> None:
    """Send one message after another, until one is not accepted."""
    connector = aiohttp.UnixConnector(str(daemon.host_socket))
    async with aiohttp.ClientSession(connector=connector) as session:
        for number in range(100_000):
            body = f"{name}:{number}"
            try:
                async with session.post("http://hive/v1/messages", json={"to": "ann", "body": body}) as response:
                    answer = await response.json()
            except (aiohttp.ClientError, OSError):
                outcomes.not_taken.add(body)
                return
            if response.status != 200:
                assert (response.status, answer["error"]["code"]) == (503, "stopping")
                outcomes.refused.add(body)
                return
            outcomes.stored.add(body)
            if len(outcomes.stored) == 20 * SENDERS:
                outcomes.enough.set()


async def test_sigterm_under_load_finishes_what_it_began(daemon: Daemon) -> None:
    """Every send gets an answer or none is carried out: what is stored is exactly what was answered with ok."""
    await daemon.spawn("ann", start=False)
    outcomes = Outcomes()
    async with asyncio.TaskGroup() as tasks:
        for number in range(SENDERS):
            tasks.create_task(send_until_the_end(daemon, f"s{number}", outcomes))
        await outcomes.enough.wait()
        assert await daemon.terminate() == 0
    stored = {body for (body,) in daemon.sql("SELECT body FROM messages WHERE sender = 'operator'")}
    assert stored == outcomes.stored
    assert len(outcomes.refused | outcomes.not_taken) == SENDERS
    assert daemon.sql("PRAGMA integrity_check") == [("ok",)]


async def test_sigterm_ends_long_polls_at_once(daemon: Daemon) -> None:
    """Harnesses and operators that wait for something do not hold up the stop."""
    await daemon.spawn("ann", start=False)
    instance = {"instance": "instance-1"}
    await daemon.ask("POST", "/v1/harness/hello", {**instance, "version": "1"}, agent="ann")
    sent = await daemon.ask("POST", "/v1/messages", {"to": "ann", "body": "hello"})
    receive = {**instance, "wait_seconds": 300.0}
    first = await daemon.ask("POST", "/v1/messages/receive", receive, agent="ann")
    assert [delivery["id"] for delivery in first["deliveries"]] == [sent["id"]]
    polls = [
        asyncio.ensure_future(daemon.ask("POST", "/v1/messages/receive", receive, agent="ann")),
        asyncio.ensure_future(daemon.ask("GET", f"/v1/messages/{sent['id']}/reply?wait_seconds=300")),
    ]
    # A request that comes after them and is answered: they have been read by then.
    await asyncio.gather(daemon.ask("GET", "/healthz"), daemon.ask("GET", "/v1/whoami", agent="ann"))
    began = time.monotonic()
    assert await daemon.terminate() == 0
    assert time.monotonic() - began < 5
    assert (await polls[0])["deliveries"] == []
    assert (await polls[1])["reply"] is None


async def test_an_agent_that_hangs_is_killed_in_time(hive_home: Path) -> None:
    """A harness that does not hear SIGTERM costs the stop timeout, and then it is gone."""
    async with running(Daemon(hive_home, settings={"stop_timeout": 1})) as daemon:
        await daemon.spawn("ann")
        await daemon.spawn("bob")
        hanging = []
        for name in ("ann", "bob"):
            status = await daemon.agent_until(name, lambda agent: agent["state"] == "idle")
            hanging.append(psutil.Process(status["pid"]))
            hanging[-1].suspend()
        began = time.monotonic()
        assert await daemon.terminate() == 0
        assert 1 <= time.monotonic() - began < 8
        assert [process for process in hanging if process.is_running()] == []


async def test_sigterm_while_agents_start_is_a_clean_stop(daemon: Daemon) -> None:
    """A stop that comes before every agent was started is no failure, and leaves no agent behind."""
    for number in range(8):
        await daemon.spawn(f"a{number}")
    await daemon.kill()
    await daemon.start()
    assert await daemon.terminate() == 0
    assert daemon.log_entries("a part of the daemon failed") == []
    await daemon.orphans_gone(20)
    assert psutil.pid_exists(daemon.pid) is False


async def test_systemd_is_told(hive_home: Path) -> None:
    """READY when it answers, WATCHDOG while it does, STOPPING when it has begun to stop."""
    watched = {"WATCHDOG_USEC": "200000"}
    async with running(Daemon(hive_home, environment=watched)) as daemon:
        assert (await daemon.ask("GET", "/healthz"))["status"] == "ok"
        for _ in range(3):
            await daemon.notified("WATCHDOG=1")
        os.kill(daemon.pid, signal.SIGTERM)
        await daemon.notified("STOPPING=1")
        assert await daemon.ended() == 0


async def test_left_out_refusals_are_counted_at_the_stop(daemon: Daemon) -> None:
    """Refusals beyond 30 a minute are summed up in the audit table when the daemon stops within that minute."""
    await daemon.spawn("ann", start=False)
    for _ in range(35):
        assert (await daemon.request("GET", "/v1/nothing", agent="ann"))[0] == 404
    assert await daemon.terminate() == 0
    rows = daemon.sql("SELECT actor, outcome, detail FROM audit WHERE outcome = 'left_out'")
    assert rows == [("agent:ann", "left_out", '{"left_out": 5}')]


async def test_a_hang_up_is_a_stop(hive_home: Path) -> None:
    """A daemon whose terminal is closed stops in good order, with its agents."""
    # The tests may themselves be run by nohup, whose children would ignore the signal.
    async with running(Daemon(hive_home, wrapper=["env", "--default-signal=HUP"])) as daemon:
        await daemon.spawn("ann")
        agent = await daemon.agent_until("ann", lambda agent: agent["state"] == "idle")
        os.kill(daemon.pid, signal.SIGHUP)
        assert await daemon.ended() == 0
        assert not psutil.pid_exists(agent["pid"])
        assert daemon.log_entries("stopped")


async def test_nohup_keeps_its_meaning(hive_home: Path) -> None:
    """A daemon that was started with SIGHUP ignored goes on when its terminal is closed."""
    async with running(Daemon(hive_home, wrapper=["env", "--ignore-signal=HUP"])) as daemon:
        os.kill(daemon.pid, signal.SIGHUP)
        assert (await daemon.ask("GET", "/v1/status"))["pid"] == daemon.pid
        assert await daemon.terminate() == 0


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "</dev/null >/dev/full 2>/dev/full"], ids=["closed", "full"])
async def test_streams_that_cannot_be_written(hive_home: Path, streams: str) -> None:
    """Closed and full standard streams end no daemon: it works, and stops with exit code 0."""
    async with running(Daemon(hive_home, wrapper=["sh", "-c", f'exec "$@" {streams}', "sh"])) as daemon:
        sent = await daemon.request("POST", "/v1/messages", {"to": "nobody", "body": "x"})  # A refusal is logged.
        assert sent[0] == 404
        descriptors = [os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in range(3)]  # noqa: PTH115
        assert all(path.startswith("/dev/") for path in descriptors)
        assert await daemon.terminate() == 0


async def test_output_that_nobody_reads(hive_home: Path) -> None:
    """A daemon whose standard streams are pipes without a reader works, and stops with exit code 0."""
    # The reader ends before the daemon begins.
    broken = 'exec 3> >(:); wait $!; exec "$@" >&3 2>&3 3>&-'
    async with running(Daemon(hive_home, wrapper=["bash", "-c", broken, "bash"])) as daemon:
        assert (await daemon.request("POST", "/v1/messages", {"to": "nobody", "body": "x"}))[0] == 404
        assert all(os.readlink(f"/proc/{daemon.pid}/fd/{number}").startswith("pipe:") for number in (1, 2))  # noqa: PTH115
        assert await daemon.terminate() == 0
