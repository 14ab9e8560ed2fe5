"""What systemd or a program refuses in the middle of an action: nothing half prepared is started, no crash is lost."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from hive_core.errors import HiveError
from hive_core.protocol import Lifecycle
from hive_core.runtimes.base import UnitState
from hive_core.runtimes.nixos.containers.activation import CrashRestarter
from hive_core.runtimes.nixos.runtime import NixosRuntime
from hive_core.runtimes.unit_state import BackOff
from tests.unit.core.runtimes.nixos.builders import spec_of
from tests.unit.core.runtimes.nixos.fake_host import FakeHost

UNIT = "container@h-ada.service"
AWAY = HiveError("no_dbus", "the bus is away", status=503)


def crash(host: FakeHost) -> None:
    host.systemd.put(UNIT, "failed", "failed", code=2, status=9, result="signal")


async def test_a_stop_that_is_refused_does_not_excuse_the_next_crash(
    host: FakeHost, runtime: NixosRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container runs on, and is started again after it has crashed."""

    async def refuse(_unit: str) -> None:
        raise AWAY

    await runtime.start(spec_of(host.place))
    monkeypatch.setattr(host.systemd, "stop", refuse)
    with pytest.raises(HiveError):
        await runtime.stop("ada")
    changes = runtime.watch()
    crash(host)
    assert [(await anext(changes)).lifecycle for _ in range(3)] == ["backoff", "starting", "running"]


async def test_a_stop_whose_answer_is_lost_is_no_crash(
    host: FakeHost, runtime: NixosRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd has done it, or is at it: that end was asked for."""
    stop = host.systemd.stop

    async def do_and_refuse(unit: str) -> None:
        await stop(unit)
        raise AWAY

    await runtime.start(spec_of(host.place))
    monkeypatch.setattr(host.systemd, "stop", do_and_refuse)
    with pytest.raises(HiveError):
        await runtime.stop("ada")
    assert [unit.lifecycle for unit in runtime.units()] == ["stopped"]


async def test_a_crashed_container_that_cannot_be_prepared_is_not_started(
    host: FakeHost, runtime: NixosRuntime
) -> None:
    """It would be with some of the new and some of the old."""
    spec = spec_of(host.place)
    await runtime.start(spec)
    changes = runtime.watch()
    crash(host)
    assert (await anext(changes)).lifecycle == "backoff"
    shutil.rmtree(host.host_paths.profiles)
    host.host_paths.profiles.touch()
    host.systemd.done.clear()
    with pytest.raises(HiveError):
        await runtime.activate(replace(spec, closure="/nix/store/bbb-system"))
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "start ada again"))
    assert host.systemd.done == [] and [unit.lifecycle for unit in runtime.units()] == ["stopped"]


async def test_an_environment_that_cannot_be_told_changes_nothing(host: FakeHost, runtime: NixosRuntime) -> None:
    """It is refused before anything is stopped or written."""
    spec = spec_of(host.place)
    await runtime.start(spec)
    text = host.host_paths.conf("h-ada").read_text()
    host.systemd.done.clear()
    with pytest.raises(HiveError) as refused:
        await runtime.activate(replace(spec, closure="/nix/store/bbb-system", environment={"KEY": "a\x00b"}))
    assert refused.value.code == "bad_environment"
    assert host.systemd.done == [] and host.host_paths.conf("h-ada").read_text() == text


async def test_a_container_is_started_again_once_systemd_is_back(
    host: FakeHost, runtime: NixosRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often that was refused; it waits meanwhile, and nobody is told that it has failed for good."""
    await runtime.start(spec_of(host.place))
    start, refusals = host.systemd.start, 3

    async def refuse(unit: str) -> None:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise AWAY
        await start(unit)

    changes = runtime.watch()
    monkeypatch.setattr(host.systemd, "start", refuse)
    crash(host)
    seen: list[str] = []
    while not seen or seen[-1] != "running":
        seen.append((await anext(changes)).lifecycle)
    assert seen == ["backoff", "starting"] * 4 + ["running"]


@pytest.mark.parametrize("path", [r"unix\x2dexport-h\x2dada", r"h\x2dada-unix\x2dexport"])
async def test_a_mount_that_a_killed_nspawn_left_is_removed(host: FakeHost, runtime: NixosRuntime, path: str) -> None:
    """Before the next start, by systemd, wherever this release has it; those of other containers stay."""
    left = rf"run-systemd-nspawn-{path}.mount"
    others = [left.replace("ada", "adam"), left.replace(r"h\x2dada", "ada")]
    for mount in (left, *others):
        host.systemd.put(mount, "active", "mounted")
    await runtime.start(spec_of(host.place))
    assert host.systemd.done[-2:] == [f"stop {left}", f"start {UNIT}"]
    assert [unit for unit in host.systemd.units if unit in others] == others
    assert not [done for done in host.systemd.done if any(other in done for other in others)]


async def test_what_is_still_going_down_is_waited_for(host: FakeHost, runtime: NixosRuntime) -> None:
    """systemd may start a crashed container again itself, by somebody's drop-in: it is stopped before its root
    directory is looked at.
    """
    await runtime.start(spec_of(host.place))
    changes = runtime.watch()
    host.systemd.done.clear()
    host.systemd.put(UNIT, "activating", "auto-restart", code=2, status=9, result="signal", main_pid=0)
    seen = [(await anext(changes)).lifecycle for _ in range(3)]
    assert seen == ["backoff", "starting", "running"] and host.systemd.done == [f"stop {UNIT}", f"start {UNIT}"]


async def states(*lifecycles: Lifecycle) -> AsyncIterator[UnitState]:
    restarts = 0
    for lifecycle in lifecycles:
        restarts = restarts + 1 if lifecycle == "backoff" else restarts
        yield UnitState("ada", lifecycle, restarts=restarts)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited; nobody waits really."""
    waited: list[float] = []

    async def noted(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("hive_core.runtimes.nixos.containers.activation.asyncio.sleep", noted)
    return waited


async def finished() -> None:
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "start ada again"))


async def test_the_pause_grows_with_every_crash_in_a_row(pauses: list[float]) -> None:
    """Up to the longest; a start on request, or a stop, makes the next crash the first again."""
    started: list[str] = []

    async def start(name: str) -> None:
        started.append(name)

    restarter = CrashRestarter(start, BackOff(first=1, longest=4))
    await restarter.run(states(*["starting", "backoff"] * 4, "stopped", "starting", "backoff"))  # type: ignore[arg-type]
    await finished()
    assert sorted(pauses) == [1, 1, 2, 4, 4] and started == ["ada"] * 5


async def test_a_refusal_is_tried_again(pauses: list[float]) -> None:
    """After the next pause, until it works: systemd may be away for long."""
    tries: list[float] = []

    async def start(_name: str) -> None:
        tries.append(pauses[-1])
        if len(tries) < 4:
            raise HiveError("no_dbus", "the bus is away")

    restarter = CrashRestarter(start, BackOff(first=1, longest=4))
    await restarter.run(states("backoff"))
    await finished()
    assert tries == [1, 2, 4, 4]


@pytest.mark.parametrize("since", ["stopped", "starting", "backoff"])
async def test_what_was_told_since_a_refusal_counts(since: Lifecycle, pauses: list[float]) -> None:
    """One that is stopped or started by somebody else is not tried again, and for one that waits anew there is one
    try at a time.
    """
    tried, heard = asyncio.Event(), asyncio.Event()
    tries = 0

    async def start(_name: str) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            tried.set()
            await heard.wait()
            raise HiveError("no_dbus", "the bus is away")

    async def told() -> AsyncIterator[UnitState]:
        yield UnitState("ada", "backoff")
        await tried.wait()
        yield UnitState("ada", since)
        heard.set()

    restarter = CrashRestarter(start, BackOff(first=1))
    await restarter.run(told())
    await finished()
    assert tries == (2 if since == "backoff" else 1)
    await restarter.close()
