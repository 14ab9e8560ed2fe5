"""The daemon dies between any two steps of work; the next one finishes or undoes what was under way."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from hive_core.gate.records import transitions
from hive_core.gate.subject.background import BackgroundWork
from hive_core.layout import Layout
from tests.unit.core.work.gate.work_hive import PATIENCE, FakeCheck, FakeRecord, WorkHive, git, opened

Act = Callable[[WorkHive], Awaitable[object]]


class Died(BaseException):
    """The daemon was killed here."""


@dataclass
class Crash:
    """Kills at the crash point number `at`; after that nothing of the daemon has an effect any more."""

    at: int | None
    reached: list[str] = field(default_factory=list)
    happened: asyncio.Event = field(default_factory=asyncio.Event)
    dead: bool = False

    @contextmanager
    def armed(self) -> Iterator[None]:
        loop, lock = asyncio.get_running_loop(), threading.Lock()

        def step(name: str) -> None:
            with lock:
                if self.dead:
                    raise Died
                self.reached.append(name)
                if len(self.reached) == self.at:
                    self.dead = True
                    loop.call_soon_threadsafe(self.happened.set)
                    raise Died

        with patch.object(transitions, "crash_point", step), patch.object(BackgroundWork, "persist", _until_dead):
            yield

    def end_writes(self, hive: WorkHive) -> None:
        """Let the database be as it was at the death."""
        for name in ("submit", "write"):
            real = getattr(hive.database, name)

            def unless_dead(*args: Any, real: Callable[..., Any] = real, **named: Any) -> Any:
                if self.dead:
                    raise Died
                return real(*args, **named)

            setattr(hive.database, name, unless_dead)


async def _until_dead(self: BackgroundWork, subject: str, number: int, step: Callable[[], Awaitable[None]]) -> None:
    with suppress(Died):
        await _persist(self, subject, number, step)  # type: ignore[arg-type]


_persist = BackgroundWork.persist


@dataclass(frozen=True)
class Kind:
    """What is cut off, and the states in which the work may be when a daemon has lived on."""

    act: Act
    ends: set[str]
    record: FakeRecord = field(default_factory=FakeRecord)
    prepare: Act | None = None


async def submit(hive: WorkHive) -> None:
    number = (await hive.submit(hive.commit({"a": "1"}))).number
    await hive.until(number, "built", "failed")


async def submit_broken(hive: WorkHive) -> None:
    number = (await hive.submit(hive.commit({"BROKEN": "1"}))).number
    await hive.until(number, "failed")


async def submitted_before_the_branch_went_on(hive: WorkHive) -> None:
    await submit(hive)
    await asyncio.to_thread(hive.land_elsewhere, {"b": "2"})


async def approve(hive: WorkHive) -> None:
    await hive.approve(1)
    await hive.until(1, "deployed", "failed")


async def deny(hive: WorkHive) -> None:
    await hive.deny(1)


async def publish(hive: WorkHive) -> None:
    await approve(hive)
    await hive.published(1)


MERGES = FakeRecord(merges=True, checks=[FakeCheck("test")])
KINDS = {
    "submission": Kind(submit, {"built"}),
    "failing checks": Kind(submit_broken, {"failed"}, FakeRecord(checks=[FakeCheck("test")])),
    "landing": Kind(approve, {"built", "deployed"}, FakeRecord(checks=[FakeCheck("test")]), submit),
    "landing with a merge": Kind(approve, {"built", "deployed"}, MERGES, submitted_before_the_branch_went_on),
    "landing that needs a rebase": Kind(approve, {"built", "failed"}, prepare=submitted_before_the_branch_went_on),
    "denial": Kind(deny, {"built", "denied"}, prepare=submit),
    "publication": Kind(publish, {"built", "deployed"}, FakeRecord(push="branch"), submit),
}


async def _run(layout: Layout, kind: Kind, at: int | None) -> list[str]:
    """Do it, and die at the crash point number `at`. Returns the points that were reached."""
    crash = Crash(at)
    async with opened(layout, kind.record) as hive:
        if kind.prepare is not None:
            await kind.prepare(hive)
        crash.end_writes(hive)
        with crash.armed():
            doing = asyncio.ensure_future(kind.act(hive))
            dying = asyncio.create_task(crash.happened.wait())
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait({doing, dying}, return_when=asyncio.FIRST_COMPLETED)
            dying.cancel()
            if crash.dead:
                doing.cancel()
                with suppress(asyncio.CancelledError, Died):
                    await doing
            else:
                await doing
            await hive.gate.close()
    return crash.reached


async def _check_after(layout: Layout, kind: Kind) -> None:
    """Let the next daemon recover; then everything agrees, and what was asked for has happened once or not at all."""
    async with opened(layout, kind.record) as hive:
        await hive.gate._context.ready()
        await hive.settled()
        rows = await hive.rows()
        assert {row.state for row in rows} <= kind.ends
        landed = [row for row in rows if row.state == "deployed"]
        if kind.record.push != "none" and landed:
            await hive.published(1)
        await hive.check()
        history = git(layout.mirror("web"), "rev-list", "refs/heads/main").split("\n")
        assert all(history.count(row.commit) == 1 for row in landed)
        first_lines = [text.partition("\n")[0] for text in await hive.messages("ada")]
        assert len(first_lines) == len(set(first_lines)), first_lines


QUICK = ("landing",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough) for name in KINDS]
)
async def test_killed_anywhere(layout: Layout, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Killed at any step, the next daemon makes branch, tags, index and messages agree, and does nothing twice."""
    kind = KINDS[name]

    def fresh() -> Layout:
        home = Path(shutil.copytree(layout.state_dir.parent, tmp_path_factory.mktemp("crash") / "hive", symlinks=True))
        return Layout(home / "state", home / "run")

    points = await _run(fresh(), kind, None)
    assert "tags planted" in points
    tried: set[tuple[str, int]] = set()
    for at, point in enumerate(points, 1):
        key = (point, points[:at].count(point))
        if key in tried:
            continue
        tried.add(key)
        place = fresh()
        await _run(place, kind, at)
        await _check_after(place, kind)
