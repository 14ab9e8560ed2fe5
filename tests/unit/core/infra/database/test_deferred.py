"""Stop and destroy on a full disk: they happen, and a daemon that is killed at any moment agrees with it later."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hive_core.agents.purge import Trash
from hive_core.errors import HiveError
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.infra.database.deferred import DeferredChanges, Intent, IntentFiles
from hive_core.infra.database.writer import Writer
from hive_core.layout import Layout
from tests.helpers.disks.small_disks import SmallDisk, small_disk
from tests.unit.core.agents.builders import AgentHive, FakeProcesses, opened

KINDS = ("tmpfs", "quota")
ACTIONS = ("stop", "destroy", "purge")


class Killed(BaseException):
    """The end of the daemon at some step."""


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(request.param, tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def layout(disk: SmallDisk, tmp_path: Path) -> Layout:
    return Layout(disk.path / "s", tmp_path / "run")


@asynccontextmanager
async def with_bob(layout: Layout) -> AsyncIterator[AgentHive]:
    """A hive with the running agents ann and bob, of which bob has files."""
    async with opened(layout) as hive:
        for name in ("ann", "bob"):
            await hive.spawn(name)
            (layout.agent(name).state / "file").write_bytes(b"x" * 4096)
        yield hive


async def fill(disk: SmallDisk, database: Database) -> None:
    """Leave room for nothing in the database."""
    disk.fill()
    port = 2_000
    for size in (30_000, 3_000, 10):
        while True:
            port += 1
            try:
                await database.write(_note(port, size))
            except HiveError as error:
                assert error.code == "disk_full"
                break


def _note(port: int, size: int) -> Callable[[sqlite3.Connection], None]:
    def note(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO web_ports (name, port) VALUES (?, ?)", (f"{port:x<{size}}", port))

    return note


async def carry_out(hive: AgentHive, action: str) -> None:
    if action == "stop":
        await hive.lifecycle.stop("bob", "operator")
    else:
        await hive.lifecycle.destroy("bob", "operator", purge=action == "purge")


def check_done(hive: AgentHive, layout: Layout, action: str) -> None:
    """Check that bob is as it was asked for, and ann as before."""
    record = hive.agents.find("bob")
    assert "bob" not in hive.processes.running
    if action == "stop":
        assert record is not None
        assert record.desired == "stopped"
    else:
        assert record is None
    assert layout.agent_home("bob").exists() is (action != "purge")
    ann = hive.agents.record("ann")
    assert ann.desired == "running"
    assert (layout.agent("ann").state / "file").exists()


async def store_what_was_kept(hive: AgentHive) -> None:
    """Let the background task store it, which needs no restart."""
    storing = asyncio.create_task(hive.deferred.run())
    async with asyncio.timeout(10):
        while hive.deferred.kept():
            await asyncio.sleep(0.01)
    storing.cancel()
    broken = await hive.database.read(audit.first_broken_row)
    assert broken is None


@pytest.mark.parametrize("action", ACTIONS)
async def test_it_happens_on_a_full_disk_and_is_stored_later(disk: SmallDisk, layout: Layout, action: str) -> None:
    """Without a reserve, too: the next daemon knows of it while the disk is still full, and it is stored after that."""
    async with with_bob(layout) as hive:
        await hive.lifecycle.start_wanted()
        await fill(disk, hive.database)
        await carry_out(hive, action)
        check_done(hive, layout, action)
        disk.fill()
    async with opened(layout) as hive:
        check_done(hive, layout, action)
        await hive.lifecycle.start_wanted()
        check_done(hive, layout, action)
        disk.make_room()
        await store_what_was_kept(hive)
    async with opened(layout) as hive:
        check_done(hive, layout, action)
        rows = await hive.database.read(lambda db: audit.rows(db, subject="bob"))
        assert [row.action for row in rows].count("stop" if action == "stop" else "destroy") == 1
        # The name can be used again, with what its first owner left only where that was not purged.
        if action != "stop":
            await hive.spawn("bob")
            assert (layout.agent("bob").state / "file").exists() is (action == "destroy")
        await hive.lifecycle.start("bob", "operator")
    async with opened(layout) as hive:
        assert hive.agents.record("bob").desired == "running"


async def test_a_later_request_is_stored_after_the_one_that_was_kept(disk: SmallDisk, layout: Layout) -> None:
    """An agent that was stopped on a full disk and then started stays started."""
    async with with_bob(layout) as hive:
        await fill(disk, hive.database)
        await hive.lifecycle.stop("bob", "operator")
        with pytest.raises(HiveError) as refusal:
            await hive.lifecycle.start("bob", "operator")
        assert refusal.value.code == "disk_full"
        assert "bob" not in hive.processes.running
        await hive.lifecycle.restart("ann", "operator")
        assert "ann" in hive.processes.running
        disk.make_room()
        await hive.lifecycle.start("bob", "operator")
        await store_what_was_kept(hive)
    async with opened(layout) as hive:
        assert hive.agents.record("bob").desired == "running"
        rows = await hive.database.read(lambda db: audit.rows(db, limit=4))
        assert sorted((row.action, row.subject) for row in rows) == [
            ("restart", "ann"),
            ("spawn", "bob"),
            ("start", "bob"),
            ("stop", "bob"),
        ]


ALWAYS: list[tuple[Any, str]] = [(Writer, "write"), (DeferredChanges, "store_or_keep"), (IntentFiles, "record")]
STEPS: dict[str, list[tuple[Any, str]]] = {
    "stop": [*ALWAYS, (FakeProcesses, "stop")],
    "destroy": [*ALWAYS, (FakeProcesses, "destroy")],
    "purge": [*ALWAYS, (FakeProcesses, "destroy"), (Trash, "move_all"), (Trash, "delete_in_place")],
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("action", "owner", "step"), [(action, *step) for action, steps in STEPS.items() for step in steps]
)
async def test_a_daemon_killed_at_any_step_agrees_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, owner: Any, step: str, after: bool
) -> None:
    """The next one finds the agent as it was before, or as was asked for, and never something between."""
    layout = Layout(tmp_path / "disk" / "s", tmp_path / "run")
    with small_disk("tmpfs", tmp_path / "disk") as disk:
        async with with_bob(layout) as hive:
            await fill(disk, hive.database)
            with monkeypatch.context() as patch:
                patch.setattr(owner, step, _killing(getattr(owner, step), after=after))
                with suppress(Killed):
                    await carry_out(hive, action)
        async with opened(layout) as hive:
            record = hive.agents.find("bob")
            if record is not None and record.desired == "running":
                assert (layout.agent("bob").state / "file").exists()
                await hive.lifecycle.start_wanted()
                assert hive.processes.running == {"ann", "bob"}
            else:
                check_done(hive, layout, action)
            disk.make_room()
            await store_what_was_kept(hive)
        async with opened(layout) as again:
            assert again.agents.exists("bob") is (record is not None)
            if record is not None:
                assert again.agents.record("bob").desired == record.desired


def _killing(step: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """Return `step`, but the daemon ends before or after it. In a thread, that is what the caller sees."""
    if asyncio.iscoroutinefunction(step):

        async def until(*args: Any, **named: Any) -> Any:
            if after:
                await step(*args, **named)
            raise Killed

        return until

    def until_then(*args: Any, **named: Any) -> Any:
        if after:
            step(*args, **named)
        raise Killed

    return until_then


@pytest.mark.parametrize("gone", ACTIONS)
@pytest.mark.parametrize("recorded", [None, "stop"])
@pytest.mark.parametrize("remove", ["remove", "remove_others", "make"])
def test_a_removal_that_is_interrupted_is_no_intent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str, recorded: Intent | None, remove: str
) -> None:
    """An agent that stays is not purged because of a kill while its files were removed, where none can be renamed."""
    files = IntentFiles(tmp_path)
    files.make("bob")
    if recorded is not None:
        files.record("bob", recorded)
    elif remove == "make":
        (tmp_path / "bob" / "guard").unlink()

    def interrupted(path: Path, **_: object) -> None:
        if path.exists():
            (path / gone).unlink(missing_ok=True)
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        patch.setattr(Path, "rename", _without_room)
        with pytest.raises(Killed):
            getattr(files, remove)([] if remove == "remove_others" else "bob")
    assert files.recorded() == {}
    files.make("bob")
    files.record("bob", "destroy")
    assert files.recorded() == {"bob": "destroy"}


def _without_room(_path: Path, _target: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
