"""The life of containers, on a systemd in memory: what is set before each start, what outlives the daemon."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.protocol import AgentConfig, Limits, Usage
from hive_core.runtimes.nixos.containers import config_files
from hive_core.runtimes.nixos.runtime import NixosRuntime
from tests.unit.core.runtimes.nixos.builders import spec_of
from tests.unit.core.runtimes.nixos.fake_host import FakeHost

UNIT = "container@h-ada.service"


def setting(host: FakeHost, key: str) -> str | None:
    return config_files.conf_value(host.host_paths.conf("h-ada").read_text(), key)


def pauses() -> list[asyncio.Task[object]]:
    """What waits to start ada's container again."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "start ada again"]


async def test_a_new_agent_gets_a_container(host: FakeHost, runtime: NixosRuntime) -> None:
    """It is made on its closure with the hive's lines, its limits are in force, and it runs."""
    spec = spec_of(host.place, limits=Limits(memory_max="64M"))
    changes = runtime.watch()
    await runtime.start(spec)
    assert host.calls() == [
        "nixos-container create h-ada --system-path /nix/store/aaa-system",
        "nix-env -p h-ada/system --set /nix/store/aaa-system",
    ]
    assert host.systemd.done == ["reload", f"start {UNIT}"]
    assert setting(host, "SYSTEM_PATH") == "/nix/store/aaa-system" and setting(host, "HOST_ADDRESS") == ""
    assert setting(host, "AUTO_START") == "0"
    assert config_files.has_environment(spec)
    dropin = (host.host_paths.dropin_dir("h-ada") / "10-hyperhive.conf").read_text()
    assert f"MemoryMax={64 * 1024**2}\n" in dropin and "TimeoutStopSec=10000ms\n" in dropin
    assert [(await anext(changes)).lifecycle for _ in range(2)] == ["starting", "running"]
    assert [(unit.name, unit.lifecycle) for unit in runtime.units()] == [("ada", "running")]


async def test_a_container_that_is_as_it_should_be_is_left_alone(host: FakeHost, runtime: NixosRuntime) -> None:
    """Starting it does nothing; with another closure, deployment or network it is started anew."""
    spec = spec_of(host.place)
    await runtime.start(spec)
    host.systemd.done.clear()
    await runtime.start(spec)
    assert host.systemd.done == []
    for other, between in (
        (replace(spec, closure="/nix/store/bbb-system"), []),
        (replace(spec, deployment=2), []),
        (replace(spec, sealed=True), ["reload"]),  # The unit's drop-in lets it have the device of its own network.
        (replace(spec, nix_daemon=True), ["reload"]),
    ):
        await runtime.start(other)
        assert host.systemd.done == [f"stop {UNIT}", *between, f"start {UNIT}"]
        await runtime.start(spec)
        host.systemd.done.clear()


HIDDEN = "InaccessiblePaths=-/nix/var/nix/daemon-socket\n"


@pytest.mark.parametrize(("wanted", "sealed"), [(False, False), (False, True), (True, False), (True, True)])
async def test_the_nix_daemon_is_hidden_unless_it_is_approved(
    host: FakeHost, runtime: NixosRuntime, wanted: bool, sealed: bool
) -> None:
    """From the container's unit, so outside of the container, whatever its network is."""
    await runtime.start(spec_of(host.place, nix_daemon=wanted, sealed=sealed))
    text = (host.host_paths.dropin_dir("h-ada") / "10-hyperhive.conf").read_text()
    assert (HIDDEN in text) == (not wanted)


async def test_a_container_of_an_older_hive_that_shows_the_nix_daemon_is_started_anew(
    host: FakeHost, runtime: NixosRuntime
) -> None:
    """The first start of this daemon closes what the one before left open."""
    spec = spec_of(host.place)
    await runtime.start(spec)
    dropin = host.host_paths.dropin_dir("h-ada") / "10-hyperhive.conf"
    dropin.write_text(dropin.read_text().replace(HIDDEN, ""))
    host.systemd.done.clear()
    await runtime.start(spec)
    assert host.systemd.done == [f"stop {UNIT}", "reload", f"start {UNIT}"]
    assert HIDDEN in dropin.read_text()


async def test_without_user_namespaces_the_nix_daemon_is_refused(host: FakeHost) -> None:
    """An agent that asks for it is told why not and what to do, and one that has it all the same does not see it."""
    runtime = await host.daemon(user_namespaces=False)
    runtime.check_settings(AgentConfig(network="sealed"))
    with pytest.raises(HiveError, match="nix_daemon = true is refused") as refusal:
        runtime.check_settings(AgentConfig(nix_daemon=True))
    assert refusal.value.code == "no_nix_daemon" and "user_namespaces" in refusal.value.hint
    await runtime.start(spec_of(host.place, nix_daemon=True))
    assert HIDDEN in (host.host_paths.dropin_dir("h-ada") / "10-hyperhive.conf").read_text()
    await runtime.close()


async def test_a_new_closure_is_put_in_place_while_the_container_is_stopped(
    host: FakeHost, runtime: NixosRuntime
) -> None:
    """No program is run for it; systemd reloads only if a limit is another, or was changed live."""
    spec = spec_of(host.place)
    await runtime.activate(spec)
    host.calls()
    host.systemd.done.clear()
    await runtime.activate(replace(spec, closure="/nix/store/bbb-system", deployment=2))
    assert host.calls() == []
    assert (host.host_paths.profile("h-ada") / "system").resolve() == Path("/nix/store/bbb-system")
    assert host.systemd.done == [f"stop {UNIT}", f"start {UNIT}"]
    assert setting(host, "SYSTEM_PATH") == "/nix/store/bbb-system"
    live = host.host_paths.live_dir("h-ada")
    live.mkdir(parents=True)
    (live / "50-MemoryMax.conf").touch()
    host.systemd.done.clear()
    await runtime.activate(replace(spec, closure="/nix/store/bbb-system", deployment=3))
    assert host.calls() == [] and host.systemd.done == [f"stop {UNIT}", "reload", f"start {UNIT}"]
    assert not live.exists()


async def test_a_closure_that_is_gone_stops_nothing(host: FakeHost, runtime: NixosRuntime) -> None:
    """What runs goes on, and whoever asked is told."""
    await runtime.start(spec_of(host.place))
    host.systemd.done.clear()
    with pytest.raises(HiveError) as refused:
        await runtime.activate(spec_of(host.place, closure="/nix/store/ccc-system"))
    assert refused.value.code == "closure_gone" and host.systemd.done == []


async def test_containers_outlive_the_daemon(host: FakeHost) -> None:
    """The next daemon knows them, starts nothing anew, and hears of their end."""
    first = await host.daemon()
    spec = spec_of(host.place)
    await first.start(spec)
    await first.close()
    assert host.systemd.units[UNIT].active == "active"
    host.systemd.done.clear()
    second = await host.daemon()
    assert [(unit.name, unit.lifecycle) for unit in second.units()] == [("ada", "running")]
    changes = second.watch()
    await second.start(spec)
    assert host.systemd.done == []
    host.systemd.put(UNIT, "failed", "failed", code=2, status=9, result="signal")
    crash = await anext(changes)
    assert (crash.name, crash.lifecycle, crash.exit_cause) == ("ada", "backoff", "killed by SIGKILL")
    await second.close()


async def test_an_agent_that_was_to_be_stopped_is_stopped_by_the_next_daemon(host: FakeHost) -> None:
    """The daemon may be killed between being asked to stop an agent and doing it."""
    first = await host.daemon()
    await first.start(spec_of(host.place))
    await first.close()
    second = await host.daemon()
    await second.stop("ada")
    assert host.systemd.units[UNIT].active == "inactive"
    assert [unit.lifecycle for unit in second.units()] == ["stopped"]
    await second.close()


async def test_a_container_that_does_not_start_is_told_and_tried_again(host: FakeHost, runtime: NixosRuntime) -> None:
    """Who asked for it sees it in the states, with the cause; it runs as soon as it can."""
    host.systemd.broken.add(UNIT)
    changes = runtime.watch()
    await runtime.start(spec_of(host.place))
    assert [(await anext(changes)).lifecycle for _ in range(4)] == ["starting", "backoff"] * 2
    assert runtime.units()[0].exit_cause == "exit code 1"
    host.systemd.broken.clear()
    while (state := await anext(changes)).lifecycle != "running":
        pass
    assert state.restarts > 0


async def test_a_crashed_container_is_started_again_as_it_was(host: FakeHost, runtime: NixosRuntime) -> None:
    """By the hive, after a pause; not if it is stopped or destroyed meanwhile, nor if somebody has shut it down."""
    changes = runtime.watch()
    await runtime.start(spec_of(host.place))
    host.calls()
    host.systemd.put(UNIT, "failed", "failed", code=2, status=9, result="signal")
    seen = [(await anext(changes)).lifecycle for _ in range(5)]
    assert seen == ["starting", "running", "backoff", "starting", "running"] and host.calls() == []
    for end in (runtime.stop, runtime.destroy):
        host.systemd.put(UNIT, "failed", "failed", code=2, status=9, result="signal")
        assert (await anext(changes)).lifecycle == "backoff"
        await end("ada")
        host.systemd.done.clear()
        await asyncio.gather(*pauses())
        assert host.systemd.done == []
        await runtime.start(spec_of(host.place))
        while (await anext(changes)).lifecycle != "running":
            pass
    host.systemd.done.clear()
    host.systemd.put(UNIT, "inactive", "dead", code=1, main_pid=0)
    assert (await anext(changes)).lifecycle == "failed" and not pauses()


async def test_a_destroyed_agent_leaves_nothing_but_its_own_files(host: FakeHost, runtime: NixosRuntime) -> None:
    """Container, profile, root directory and drop-in are gone; config, state and login stay."""
    spec = spec_of(host.place)
    await runtime.start(spec)
    host.host_paths.root("h-ada").mkdir(parents=True)
    await runtime.destroy("ada")
    assert host.systemd.done[-2:] == [f"stop {UNIT}", "reload"]
    assert not any(
        path.exists()
        for path in (
            host.host_paths.conf("h-ada"),
            host.host_paths.profile("h-ada"),
            host.host_paths.root("h-ada"),
            host.host_paths.dropin_dir("h-ada"),
        )
    )
    assert spec.paths.state.is_dir() and runtime.units() == []
    await runtime.destroy("ada")


async def test_limits_and_use(host: FakeHost, runtime: NixosRuntime) -> None:
    """Limits are put in force on what runs, and told; what does not run is refused, and has none."""
    with pytest.raises(HiveError) as refused:
        await runtime.limit("ada", Limits(tasks_max=64))
    assert refused.value.code == "not_running"
    assert await runtime.limits("ada") == Limits() and await runtime.usage("ada") == Usage()
    await runtime.start(spec_of(host.place))
    await runtime.limit("ada", Limits(tasks_max=64))
    assert await runtime.limits("ada") == Limits(tasks_max=64)
    host.systemd.put(UNIT, "active", "running", memory=5, cpu_ns=1_500_000_000, tasks=3)
    assert await runtime.usage("ada") == Usage(memory_bytes=5, cpu_seconds=1.5, tasks=3)


async def test_what_runs_is_kept(host: FakeHost, runtime: NixosRuntime) -> None:
    """The closure that a container was started on last is not given up, whoever forgets it."""
    await runtime.keep("ada", ["/nix/store/bbb-system"])
    assert host.builder.kept["ada"] == {"/nix/store/bbb-system"}
    await runtime.start(spec_of(host.place))
    await runtime.keep("ada", ["/nix/store/bbb-system"])
    assert host.builder.kept["ada"] == {"/nix/store/aaa-system", "/nix/store/bbb-system"}
