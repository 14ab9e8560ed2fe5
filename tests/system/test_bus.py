"""systemd over D-Bus, on a real one: what units do, what is done to them, and a bus that goes away."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.systemd import journal
from hive_core.infra.systemd.bus import SystemBus
from hive_core.infra.systemd.resource_control import limits_dropin, unit_properties
from hive_core.infra.systemd.units import Ended, UnitProperties, UnitSubscription, describe_exit, ended, lifecycle
from hive_core.protocol import Limits
from tests.system.host_hive import needs_limits

pytestmark = pytest.mark.system

UNITS = Path("/run/systemd/system")
GROUPS = Path("/sys/fs/cgroup")
VERSION_2 = (GROUPS / "cgroup.controllers").exists()


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def unit() -> Iterator[str]:
    """The name of a unit that nobody else has; it is gone after the test."""
    name = f"bus-{secrets.token_hex(4)}.service"
    yield name
    for command in ("stop", "reset-failed"):
        subprocess.run(["systemctl", command, name.replace(".", "*.")], capture_output=True, check=False, timeout=30)
    (UNITS / name).unlink(missing_ok=True)
    shutil.rmtree(UNITS / f"{name}.d", ignore_errors=True)


@pytest.fixture
async def bus() -> AsyncIterator[SystemBus]:
    bus = await SystemBus.open()
    yield bus
    await bus.close()


async def begin(unit: str, *command: str, **properties: str) -> None:
    """Start a transient unit."""
    options = [f"--property={name}={value}" for name, value in properties.items()]
    await asyncio.to_thread(run, "systemd-run", "--quiet", f"--unit={unit}", *options, *command)


async def until(watch: UnitSubscription, *reached: str) -> list[UnitProperties]:
    """The states that came, up to the first whose lifecycle or sub-state is one of `reached`."""
    found: list[UnitProperties] = []
    async with asyncio.timeout(20):
        async for state in watch:
            found.append(state)
            if lifecycle(state) in reached or state.sub in reached:
                break
    return found


def runs_ended(states: list[UnitProperties]) -> list[Ended]:
    before = [None, *states]
    return [end for one, next_one in zip(before, states, strict=False) for end in ended(one, next_one)]


def write_unit(unit: str, text: str) -> None:
    (UNITS / unit).write_text(text)


async def test_changes_come_in_order(bus: SystemBus, unit: str) -> None:
    """Whoever watches is told of each state of a unit as it comes, with its run, and of one end of the run."""
    watch = bus.watch(unit)
    await begin(unit, "sleep", "1000")
    up = await until(watch, "running")
    await bus.stop(unit)
    down = await until(watch, "stopped")

    states = up + down
    assert [lifecycle(state) for state in states] == ["starting", "running", "stopping", "stopped"]
    assert up[-1].main_pid > 0
    assert up[-1].since is not None
    assert {state.invocation for state in states} == {up[-1].invocation} != {""}
    assert runs_ended(states) == [Ended(up[-1].invocation, down[-1])]


async def test_what_runs_already_is_told_first(bus: SystemBus, unit: str) -> None:
    """A watch begins with the units that are there, so that whoever comes back finds what went on without them."""
    await begin(unit, "sleep", "1000")
    states = await until(bus.watch(unit.removesuffix(".service")), "running")
    assert states[-1] == await bus.properties(unit)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["sh", "-c", "exit 3"], "exit code 3"),
        (["sh", "-c", "kill -SEGV $$$$"], "killed by SIGSEGV"),
        (["sh", "-c", "kill -KILL $$$$"], "killed by SIGKILL"),
        pytest.param(
            ["tail", "/dev/zero"],
            "killed because it was out of memory" if VERSION_2 else "killed by SIGKILL",
            marks=needs_limits,
        ),
    ],
    ids=["code", "fault", "kill", "memory"],
)
async def test_how_it_ended_in_words(bus: SystemBus, unit: str, command: list[str], words: str) -> None:
    """A crash is told in words: its exit code, its signal, or that memory ran out."""
    watch = bus.watch(unit)
    await begin(unit, *command, Type="simple", MemoryMax="32M", MemorySwapMax="0", LimitCORE="0")
    states = await until(watch, "failed")
    assert describe_exit(states[-1]).startswith(words)
    assert all(describe_exit(state) == "" for state in states if lifecycle(state) == "running")


async def test_each_crash_is_told_once(bus: SystemBus, unit: str, tmp_path: Path) -> None:
    """However often systemd repeats a state, each run that crashed is one incident, in order, also in a quick loop."""
    log = tmp_path / "runs"
    watch = bus.watch(unit)
    await begin(
        unit,
        *("sh", "-c", f"echo $INVOCATION_ID >> {log}; exit 7"),
        Restart="on-failure",
        RestartSec="20ms",
        StartLimitBurst="4",
        StartLimitIntervalSec="60",
    )
    states = await until(watch, "failed")
    while states[-1].result != "start-limit-hit" and states[-1].restarts < 3:
        states += await until(watch, "failed")
    assert [end.invocation for end in runs_ended(states)] == log.read_text().split()
    assert len(log.read_text().split()) == 4
    assert all(one != other for one, other in pairwise(states))


async def test_start_and_stop_wait_for_their_job(bus: SystemBus, unit: str, tmp_path: Path) -> None:
    """A unit is up when its start returns and gone when its stop does, however long these take systemd."""
    write_unit(
        unit,
        f"""[Service]
Type=forking
ExecStart=/bin/sh -c 'sleep 0.3; touch {tmp_path}/up; sleep 1000 &'
ExecStopPost=/bin/sh -c 'sleep 0.3; touch {tmp_path}/down'
""",
    )
    await bus.reload()
    await bus.start(unit)
    assert (tmp_path / "up").exists()
    assert (await bus.properties(unit)).active == "active"
    await bus.start(unit)
    await bus.stop(unit)
    assert (tmp_path / "down").exists()
    assert (await bus.properties(unit)).active == "inactive"
    await bus.stop(unit)


async def test_a_failed_start_says_why(bus: SystemBus, unit: str) -> None:
    """A unit that does not come up, or is not there, is refused with the cause, and can be tried again at once."""
    write_unit(unit, "[Unit]\nStartLimitBurst=2\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'exit 9'\n")
    await bus.reload()
    for _ in range(4):  # More often than the unit may fail by itself.
        with pytest.raises(HiveError, match="could not be started: exit code 9") as refused:
            await bus.start(unit)
        assert refused.value.code == "unit_failed"
    with pytest.raises(HiveError, match=r"could not be started: Unit bus-missing\.service not found") as refused:
        await bus.start("bus-missing.service")
    assert refused.value.code == "unit_failed"
    await bus.stop("bus-missing.service")
    assert (await bus.properties("bus-missing.service")).load == "not-found"


def in_group(group: str, controller: str, old: str, new: str) -> str:
    """A file of a control group: `old` in version 1, `new` in version 2."""
    place = GROUPS / group.lstrip("/") / new if VERSION_2 else GROUPS / controller / group.lstrip("/") / old
    return place.read_text().strip()


@needs_limits
async def test_limits_are_set_live(bus: SystemBus, unit: str) -> None:
    """Limits of a running unit change in its control group at once, and are told back; None lifts them."""
    await begin(unit, "sleep", "1000")
    group = (await bus.properties(unit)).control_group
    limits = Limits(memory_max="256M", cpu_quota=150, tasks_max=77, io_weight=50)
    await bus.set_limits(unit, unit_properties(limits))
    assert await bus.limits(unit) == limits
    assert in_group(group, "memory", "memory.limit_in_bytes", "memory.max") == str(256 * 1024**2)
    assert in_group(group, "pids", "pids.max", "pids.max") == "77"
    assert in_group(group, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "150000"

    await bus.set_limits(unit, unit_properties(Limits(tasks_max=100)))
    assert await bus.limits(unit) == Limits(tasks_max=100)
    assert in_group(group, "pids", "pids.max", "pids.max") == "100"
    assert int(in_group(group, "memory", "memory.limit_in_bytes", "memory.max").replace("max", str(2**64))) > 2**60
    async with asyncio.timeout(20):
        # systemd moves the process when it begins to manage another controller for the unit.
        while (used := await bus.properties(unit)).tasks != 1:
            await asyncio.sleep(0.02)
    assert used.memory is not None


@needs_limits
async def test_limits_of_a_dropin(bus: SystemBus, unit: str) -> None:
    """systemd reads a drop-in as the limits that it was written from, and puts them in force."""
    limits = Limits(memory_max="1G", cpu_quota=25, tasks_max=64, io_weight=200)
    write_unit(unit, "[Service]\nExecStart=sleep 1000\n")
    (UNITS / f"{unit}.d").mkdir()
    (UNITS / f"{unit}.d" / "10-hyperhive.conf").write_text(limits_dropin(limits))
    await bus.reload()
    await bus.start(unit)
    assert await bus.limits(unit) == limits
    group = (await bus.properties(unit)).control_group
    assert in_group(group, "memory", "memory.limit_in_bytes", "memory.max") == str(1024**3)


async def main_pid(unit: str) -> int:
    """As systemd knows it; systemctl asks it without the bus."""
    return int(await asyncio.to_thread(run, "systemctl", "show", "--property=MainPID", "--value", unit))


async def seen_by_systemd(unit: str, state: str) -> None:
    """Wait until systemd has noticed."""
    async with asyncio.timeout(20):
        while state not in await asyncio.to_thread(run, "systemctl", "show", "--property=ActiveState", unit):
            await asyncio.sleep(0.01)


async def test_a_bus_that_comes_back_has_lost_nothing(bus: SystemBus, unit: str) -> None:
    """What happens while the bus is away is told when it is back, once; what is asked meanwhile is done then."""
    other = unit.replace(".", "-other.")
    watch = bus.watch(unit.removesuffix(".service"))
    await begin(unit, "sleep", "1000")
    await begin(other, "sleep", "1000", CollectMode="inactive-or-failed")
    states: dict[str, list[UnitProperties]] = {unit: [], other: []}

    async def hear(*reached: str) -> None:
        async for state in watch:
            states[state.name].append(state)
            if all(seen and lifecycle(seen[-1]) in reached for seen in states.values()):
                return

    async with asyncio.timeout(20):
        await hear("running")
    daemon, victim = await main_pid("dbus.service"), await main_pid(unit)
    os.kill(daemon, signal.SIGSTOP)
    try:
        os.kill(victim, signal.SIGKILL)
        await seen_by_systemd(unit, "failed")
        stopping = asyncio.create_task(bus.stop(other))
        await asyncio.sleep(0)
    finally:
        os.kill(daemon, signal.SIGKILL)
    async with asyncio.timeout(30):
        await stopping
        await hear("failed", "stopped")

    (crash,) = runs_ended(states[unit])
    assert crash.seen is not None
    assert describe_exit(crash.seen) == "killed by SIGKILL"
    (stop,) = runs_ended(states[other])
    assert lifecycle(states[other][-1]) == "stopped"
    assert stop.seen is None or describe_exit(stop.seen) == "killed by SIGTERM"
    later = unit.replace(".", "-later.")
    await begin(later, "sleep", "1000")
    assert {state.name for state in await until(watch, "running")} == {later}


async def test_a_bus_that_stays_away(unit: str) -> None:
    """Without a bus, or with one that has no systemd on it, opening is refused with what to do; no thread is left."""
    with pytest.raises(HiveError, match="message bus cannot be reached") as refused:
        await SystemBus.open("unix:path=/run/there-is-none")
    assert refused.value.code == "no_dbus"
    private = await asyncio.create_subprocess_exec(
        *("dbus-daemon", "--session", "--nofork", "--print-address=1"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert private.stdout is not None
        address = (await private.stdout.readline()).decode().strip()
        with pytest.raises(HiveError, match="systemd does not answer") as refused:
            await SystemBus.open(address)
        assert refused.value.code == "no_systemd"
    finally:
        private.kill()
        await private.communicate()
    assert "glib" not in {thread.name for thread in threading.enumerate()}


async def test_no_connection_is_left_to_the_garbage_collector(unit: str) -> None:
    """A closed connection is gone at once: collected at another moment, it can stop the process for ever, since that
    waits for a lock of GIO's thread while this one waits for Python's.
    """
    gc.collect()
    gc.disable()
    earlier = {id(found): found for found in _connections()}  # Of other tests, if one of them has failed.
    try:
        bus = await SystemBus.open()
        bus.watch(unit)
        await bus.properties(unit)
        await bus.close()
        assert [found for found in _connections() if id(found) not in earlier] == []
    finally:
        gc.enable()


def _connections() -> list[object]:
    return [found for found in gc.get_objects() if type(found).__name__ == "DBusConnection"]


async def test_closing_ends_whoever_waits(unit: str) -> None:
    """When the bus is closed, watches end, and whoever waits for a job is told that the hive is stopping."""
    bus = await SystemBus.open()
    watch = bus.watch(unit)
    write_unit(unit, "[Service]\nType=oneshot\nExecStart=sleep 1000\n")
    await bus.reload()
    starting = asyncio.create_task(bus.start(unit))
    await until(watch, "starting")
    await bus.close()
    with pytest.raises(HiveError) as refused:
        await starting
    assert refused.value.code == "stopping"
    async with asyncio.timeout(5):
        with pytest.raises(HiveError) as refused:
            await bus.properties(unit)
        assert refused.value.code == "stopping"
        assert [state async for state in watch if lifecycle(state) == "running"] == []
        assert [state async for state in bus.watch(unit)] == []


async def test_the_journal_of_a_unit(unit: str, tmp_path: Path) -> None:
    """The last lines are read, and those after a cursor when they come, whatever bytes a process writes."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # Not in the command line: since systemd 257 the journal has it in the line "Started ...".
    script = tmp_path / "script"
    script.write_text(f"printf 'one\\ntwo \\033[1m\\377\\n'; cat {fifo}; exec sleep 1000")
    await begin(unit, "sh", str(script))
    lines: list[str] = []
    cursor: str | None = None
    async with asyncio.timeout(20):
        while not any("two" in line for line in lines):
            more, cursor = await journal.read(unit, 100, cursor, 5)
            lines += more
    texts = [line.partition(" ")[2] for line in lines]
    assert "one" in texts
    assert "two \x1b[1m�" in texts
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z .*", lines[-1])
    assert (await journal.read(unit, 1, None, 0))[0] == lines[-1:]
    assert await journal.read(unit, 100, cursor, 0) == ([], cursor)
    assert await journal.read(unit, 100, cursor, 0.05) == ([], cursor)

    waiting = asyncio.create_task(journal.read(unit, 100, cursor, 20))
    writer = os.open(fifo, os.O_RDWR)  # Opened so, it waits for nobody.
    os.write(writer, b"three\n" + b"x" * 40_000 + b"\nfour\nfive\n")
    async with asyncio.timeout(20):
        after, cursor = await waiting
        while len(after) < 4:
            more, cursor = await journal.read(unit, 100, cursor, 20)
            after += more
    os.close(writer)
    assert after[0].endswith(" three")
    assert after[1].endswith("x [line cut]")
    assert len(after[1]) < 17_000
    assert after[3].endswith(" five")


async def test_the_journal_of_nothing(unit: str) -> None:
    """A unit that never wrote has no lines, and its cursor is good for when it does; what is no cursor is refused."""
    assert await journal.read(unit, 10, None, 0) == ([], "0")
    waiting = asyncio.create_task(journal.read(unit, 10, "0", 20))
    await begin(unit, "echo", "first")
    async with asyncio.timeout(20):
        lines, cursor = await waiting
        while not any(line.endswith(" first") for line in lines):
            lines, cursor = await journal.read(unit, 10, cursor, 20)
    for wrong in ("nonsense", "--help", "s=0;i=x", "a b"):
        with pytest.raises(HiveError, match="cursor does not belong"):
            await journal.read(unit, 10, wrong, 0)
