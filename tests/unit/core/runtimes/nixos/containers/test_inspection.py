"""What a killed daemon, an agent or somebody else has left in a container's place."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.storage import file_lock
from hive_core.runtimes.nixos.containers import config_files, filesystem
from hive_core.runtimes.nixos.runtime import NixosRuntime
from tests.unit.core.runtimes.nixos.builders import spec_of
from tests.unit.core.runtimes.nixos.fake_host import FakeHost

UNIT = "container@h-ada.service"
CREATED = "PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.1.1\nLOCAL_ADDRESS=10.233.1.2\nHOST_BRIDGE=\nAUTO_START=0\n"


def point(host: FakeHost, closure: str) -> None:
    profile = host.host_paths.profile("h-ada")
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "system-1-link").symlink_to(closure)
    (profile / "system").symlink_to("system-1-link")


def conf_only(host: FakeHost) -> None:
    """`create` was killed before it set the profile."""
    host.host_paths.conf("h-ada").write_text(CREATED)


def unmarked(host: FakeHost) -> None:
    """The daemon was killed between `create` and writing its lines."""
    conf_only(host)
    point(host, "/nix/store/aaa-system")


def half_removed(host: FakeHost) -> None:
    """`destroy` was killed in the middle: the profile is gone, part of the root and the conf file are there."""
    run = host.layout.agent("ada").run
    host.host_paths.conf("h-ada").write_text(f'{CREATED}EXTRA_NSPAWN_FLAGS="--bind-ro={run}:/run/hive:rootidmap"\n')
    (host.host_paths.root("h-ada") / "var").mkdir(parents=True)


def profile_only(host: FakeHost) -> None:
    """A conf file was removed by hand."""
    point(host, "/nix/store/zzz-system")
    (host.host_paths.root("h-ada") / "var").mkdir(parents=True)


def no_link(host: FakeHost) -> None:
    """The agent has removed its profile from inside its container."""
    half_removed(host)
    host.host_paths.profile("h-ada").mkdir(parents=True)


@pytest.mark.parametrize("leave", [conf_only, unmarked, half_removed, profile_only, no_link])
async def test_leftovers_become_a_whole_container(
    host: FakeHost, runtime: NixosRuntime, leave: Callable[[FakeHost], None]
) -> None:
    """Whatever an interrupted create, destroy or update has left: the agent runs on what it is started on."""
    leave(host)
    await runtime.start(spec_of(host.place))
    text = host.host_paths.conf("h-ada").read_text()
    assert config_files.conf_value(text, "SYSTEM_PATH") == "/nix/store/aaa-system"
    assert (host.host_paths.profile("h-ada") / "system").resolve() == Path("/nix/store/aaa-system")
    assert host.systemd.units[UNIT].active == "active"


async def test_a_half_removed_root_is_not_used_again(host: FakeHost, runtime: NixosRuntime) -> None:
    """An interrupted destroy is finished first; what was left without a conf file may be data, and stays."""
    half_removed(host)
    await runtime.start(spec_of(host.place))
    assert not host.host_paths.root("h-ada").exists()
    host.host_paths.conf("h-ada").unlink()
    host.systemd.put(UNIT, "inactive", "dead")
    (host.host_paths.root("h-ada") / "var").mkdir(parents=True)
    shutil.rmtree(host.host_paths.profile("h-ada"))
    host.calls()
    await runtime.start(spec_of(host.place))
    assert (host.host_paths.root("h-ada") / "var").is_dir()
    # Without `create`: were that interrupted, clearing up after it would take the data.
    assert host.calls() == []
    assert (host.host_paths.profile("h-ada") / "system").resolve() == Path("/nix/store/aaa-system")
    assert config_files.conf_value(host.host_paths.conf("h-ada").read_text(), "AUTO_START") == "0"


@pytest.mark.parametrize("leave", [conf_only, half_removed, profile_only])
async def test_leftovers_are_destroyed_with_the_agent(
    host: FakeHost, runtime: NixosRuntime, leave: Callable[[FakeHost], None]
) -> None:
    """Nothing of them is left for the next agent of the name."""
    leave(host)
    await runtime.destroy("ada")
    host_paths = host.host_paths
    assert not any(
        path.exists() for path in (host_paths.conf("h-ada"), host_paths.profile("h-ada"), host_paths.root("h-ada"))
    )


async def test_a_drop_in_of_nobodys_is_removed_at_start(host: FakeHost) -> None:
    """Limits of an agent that is gone do not wait for the next one of its name; somebody else's drop-ins stay."""
    for container in ("h-gone", "h-other"):
        host.host_paths.dropin_dir(container).mkdir(parents=True)
    (host.host_paths.dropin_dir("h-gone") / "10-hyperhive.conf").touch()
    (host.host_paths.dropin_dir("h-other") / "10-mine.conf").touch()
    runtime = await host.daemon()
    assert not host.host_paths.dropin_dir("h-gone").exists() and host.systemd.done == ["reload"]
    assert (host.host_paths.dropin_dir("h-other") / "10-mine.conf").exists()
    await runtime.close()


def foreign(host: FakeHost) -> None:
    """A container that somebody has made by hand."""
    conf_only(host)
    point(host, "/nix/store/zzz-system")


def declared(host: FakeHost) -> None:
    """A container that the host's configuration declares: its conf file is a link into the store."""
    elsewhere = host.place / "store.conf"
    elsewhere.write_text(CREATED)
    host.host_paths.conf("h-ada").symlink_to(elsewhere)


def another_hives(host: FakeHost) -> None:
    """A container of another hive on the same host."""
    foreign(host)
    with host.host_paths.conf("h-ada").open("a") as file:
        file.write('EXTRA_NSPAWN_FLAGS="--bind-ro=/srv/hive/run/agents/ada:/run/hive:rootidmap"\n')


@pytest.mark.parametrize("leave", [foreign, declared, another_hives])
async def test_somebody_elses_container_is_not_touched(
    host: FakeHost, runtime: NixosRuntime, leave: Callable[[FakeHost], None]
) -> None:
    """An agent of the same name is refused with what to do; nothing is stopped, changed or removed."""
    leave(host)
    text = host.host_paths.conf("h-ada").read_text()
    host.systemd.put(UNIT, "active", "running", invocation="x")
    theirs = host.host_paths.live_dir("h-ada") / "50-MemoryMax.conf"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    for activate in (runtime.start, runtime.activate):
        with pytest.raises(HiveError) as refused:
            await activate(spec_of(host.place))
        assert refused.value.code == "container_in_the_way" and refused.value.hint
    await runtime.stop("ada")
    await runtime.destroy("ada")
    assert host.systemd.done == [] and host.calls() == []
    assert host.host_paths.conf("h-ada").read_text() == text and theirs.exists()


async def test_a_hostile_profile_leads_nowhere(host: FakeHost, runtime: NixosRuntime) -> None:
    """A container's root can write its profile: links there are not followed, and no number stops the next update."""
    await runtime.start(spec_of(host.place))
    profile, victim = host.host_paths.profile("h-ada"), host.place / "victim"
    victim.write_text("untouched")
    (profile / "system").unlink()
    (profile / "system").mkdir()
    (profile / "system.lock").symlink_to(victim)
    (profile / "system-18446744073709551615-link").symlink_to(victim)
    (profile / "default").symlink_to("default-1-link")
    await runtime.activate(spec_of(host.place, closure="/nix/store/bbb-system"))
    assert victim.read_text() == "untouched"
    left = sorted(entry.name for entry in profile.iterdir() if not entry.name.startswith("."))
    assert left == ["default", "system", "system-1-link"]
    assert (profile / "system-1-link").readlink() == Path("/nix/store/bbb-system")


def nest(directory: Path, name: str) -> None:
    """Make directories that are too deep to be walked through one within the other."""
    deepest = os.open(directory, os.O_PATH)
    for part in (name, *["d"] * 1_500):
        os.mkdir(part, dir_fd=deepest)
        above, deepest = deepest, os.open(part, os.O_PATH, dir_fd=deepest)
        os.close(above)
    os.close(deepest)


async def test_directories_in_the_place_of_a_profile_stop_no_update(host: FakeHost, runtime: NixosRuntime) -> None:
    """However deep they are, however often there are new ones, and however long their names are."""
    await runtime.start(spec_of(host.place))
    profile = host.host_paths.profile("h-ada")
    try:
        for closure in ("/nix/store/bbb-system", "/nix/store/aaa-system"):
            (profile / "system").unlink()
            nest(profile, "system")
            nest(profile, "system-".ljust(255, "x"))
            await runtime.activate(spec_of(host.place, closure=closure))
            assert (profile / "system").resolve() == Path(closure)
        assert len([entry for entry in profile.iterdir() if entry.name.startswith(".")]) == 4
    finally:
        subprocess.run(["rm", "-rf", profile], check=True)  # noqa: ASYNC221 - pytest could not


async def test_whoever_is_cancelled_keeps_the_claim_until_no_file_is_written(
    host: FakeHost, runtime: NixosRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next one would write the profile beside it."""
    await runtime.start(spec_of(host.place))
    writing, go_on = threading.Event(), threading.Event()

    def slow(profile: Path, closure: str) -> None:
        writing.set()
        assert go_on.wait(60)
        point_at(profile, closure)

    point_at = filesystem.point_profile
    monkeypatch.setattr(filesystem, "point_profile", slow)
    first = asyncio.create_task(runtime.activate(spec_of(host.place, closure="/nix/store/bbb-system")))
    assert await asyncio.to_thread(writing.wait, 60)
    first.cancel()
    with pytest.raises(HiveError, match="still changing"):
        async with file_lock.container_lock(host.layout.run_dir / "containers", "h-ada", seconds=0.1):
            pass
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (host.host_paths.profile("h-ada") / "system").resolve() == Path("/nix/store/bbb-system")
    async with file_lock.container_lock(host.layout.run_dir / "containers", "h-ada", seconds=60):
        pass


async def test_what_a_killed_daemon_left_running_is_waited_for(host: FakeHost, runtime: NixosRuntime) -> None:
    """A program that it started holds the claim, and its half-done work is not taken for leftovers; a claim without a
    holder is none.
    """
    place = host.layout.run_dir / "containers"
    async with file_lock.container_lock(place, "h-ada"):
        pass
    with (place / "h-ada.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        starting = asyncio.create_task(runtime.start(spec_of(host.place)))
        with pytest.raises(HiveError) as busy:
            async with file_lock.container_lock(place, "h-ada", seconds=0.05):
                pass
        assert busy.value.code == "container_busy" and not starting.done()
        fcntl.flock(lock, fcntl.LOCK_UN)
    await starting


async def test_a_full_disk_is_said(host: FakeHost, runtime: NixosRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file systems refuse comes out as an error with a name, not as a crash of the daemon."""
    await runtime.start(spec_of(host.place))
    shutil.rmtree(host.host_paths.dropins)
    host.host_paths.dropins.write_text("in the way")
    with pytest.raises(HiveError) as refused:
        await runtime.activate(spec_of(host.place, deployment=2))
    assert refused.value.code == "container_not_prepared" and refused.value.hint
