"""The disk is full at any step of any transition, and then has room again: the hive goes on without a restart."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from hive_core.errors import HiveError
from hive_core.gate.subject import background
from hive_core.infra.git.quarantine import Quarantine
from hive_core.infra.storage.disk_space import disk_full
from hive_core.layout import Layout
from hive_core.protocol import ProposeRequest
from hive_core.runtimes.base import AgentSpec
from tests.unit.core.gate.faults.crash_points import SimulatedCrash
from tests.unit.core.gate.faults.fake_disk import FakeDisk, idle
from tests.unit.core.gate.gate_hive import ADA, PATIENCE, GateHive, opened, quick
from tests.unit.core.gate.hive_template import Template
from tests.unit.core.gate.pipeline.test_crash_points import KINDS, Kind, check_told, finish
from tests.unit.core.gate.queries import refused

ANSWER_SECONDS = 10.0
"""The longest time until a request is answered, also if nothing can be written."""
QUICK = ("spawn", "propose", "approve what does not come up", "approve")
"""The kinds that have the steps of most others."""
LIKE_THE_STEP_AFTER = "index written"
"""The point after which nothing is written until the next one."""


async def fill_at(layout: Layout, kind: Kind, at: int | None) -> list[str]:
    """Carry the kind out on a disk that is full from the point `at` on, then free it; check what becomes of it.

    Returns the names of the points that were reached.
    """
    disk = FakeDisk(at)
    with capture_logs():
        async with opened(layout, quick(layout, **kind.settings), hyperhive=kind.hyperhive) as gate_hive:
            await gate_hive.gate.verification.verify()
            with disk.under(gate_hive):
                refused = await act(gate_hive, kind, disk)
                gate_hive.runtime.may_build.set()
                await idle(gate_hive)
                reached = list(disk.reached)
                await gate_hive.check()
                await check_told(gate_hive)
                rows = await gate_hive.rows(kind.agent)
                if not refused:
                    assert not rows if "gone" in kind.ends else rows[-1].state in kind.ends
                assert not list(layout.scratch.glob("closure-*"))
                await finish(gate_hive)
                if not gate_hive.hive.agents.exists(kind.agent):
                    await gate_hive.spawn(kind.agent)
                await gate_hive.check()
    return reached


async def act(gate_hive: GateHive, kind: Kind, disk: FakeDisk) -> bool:
    """Carry the kind out; the disk has room again when work waits for that. Returns True if it was refused."""
    doing = asyncio.ensure_future(kind.act(gate_hive))
    waiting = asyncio.create_task(disk.waited_for.wait())
    async with asyncio.timeout(ANSWER_SECONDS):
        await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    disk.free()
    async with asyncio.timeout(PATIENCE):
        try:
            await doing
        except HiveError as error:
            assert (error.code, error.status) == ("disk_full", 507), error
            return True
    return False


async def copies_for(template: Template, kind: Kind) -> Callable[[], Layout]:
    if kind.prepare is None:
        return template.copied
    return await template.grown(kind.prepare, quick(template.layout, **kind.settings))


async def check_every_point(template: Template, name: str, *, all_points: bool) -> None:
    kind = KINDS[name]
    copied = await copies_for(template, kind)
    whole = await fill_at(copied(), kind, None)
    assert "index written" in whole
    for at, point in enumerate(["the beginning", *whole]):
        if point == LIKE_THE_STEP_AFTER and not all_points:
            continue
        try:
            await fill_at(copied(), kind, at)
        except BaseException as error:
            error.add_note(f"full at point {at}: {point}")
            raise


@pytest.mark.parametrize("name", QUICK)
async def test_a_full_disk_at_any_step(template: Template, name: str) -> None:
    """Requests are carried out or refused as a whole, all proposals move on, and the history tells what runs."""
    await check_every_point(template, name, all_points=False)


async def test_a_start_on_a_full_disk(template: Template) -> None:
    """Rows that the index misses are written when there is room; until then requests about the agent are refused."""
    layout = template.copied()
    death = SimulatedCrash()
    with capture_logs():
        async with opened(layout, quick(layout), born=death.born) as gate_hive:
            await gate_hive.gate.verification.verify()
            with death.armed():
                number = (await gate_hive.built("ada")).number
                death.at = len(death.reached) + 2  # Before the index is written.
                await death.during(gate_hive.deny("ada", number))
                assert death.reached[-1] == "tags planted"
                await gate_hive.gate.close()
        disk = FakeDisk(0)
        with ExitStack() as stack:
            async with opened(
                layout, quick(layout), born=lambda gate_hive: stack.enter_context(disk.under(gate_hive))
            ) as gate_hive:
                async with asyncio.timeout(ANSWER_SECONDS):
                    error = await refused(gate_hive.withdraw("ada", number, ADA))
                assert (error.code, error.status) == ("disk_full", 507)
                assert (await gate_hive.show("ada", number)).state == "built"
                disk.free()
                await idle(gate_hive)
                assert (await gate_hive.show("ada", number)).state == "denied"
                await gate_hive.check()
                await gate_hive.deploy("ada")


async def test_what_never_finds_space_fails(gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that lacks space again and again, although there is some, ends as failed with the reason."""
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.001)
    attempts = 0

    async def build(*_: object) -> str:
        nonlocal attempts
        attempts += 1
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(gate_hive.runtime, "build", build)
    with capture_logs():
        number = (await gate_hive.propose("ada")).number
        failed = await gate_hive.until("ada", number, "failed")
    assert attempts == background._ATTEMPTS_WITHOUT_SPACE
    assert "no space left on the disk" in failed.outcome
    await gate_hive.check()


async def test_a_deployment_without_space_is_undone(gate_hive: GateHive) -> None:
    """A configuration that cannot be activated fails, and the one before it runs again."""
    proposal = await gate_hive.built("ada", "You sing.")
    activate = gate_hive.runtime.activate

    async def without_space(spec: AgentSpec) -> None:
        if spec.deployment == proposal.number:
            raise disk_full("write the files of a deployment")
        await activate(spec)

    with patch.object(gate_hive.runtime, "activate", without_space), capture_logs():
        await gate_hive.approve("ada", proposal.number)
        failed = await gate_hive.until("ada", proposal.number, "failed")
    assert failed.outcome.startswith("cannot write the files of a deployment: no space left on the disk")
    assert gate_hive.runtime.activated[-1] == ("ada", 0)
    await gate_hive.check()


SHORT_OF_SPACE = (
    (tempfile, "mkdtemp"),
    (Path, "mkdir"),
    (os, "pipe2"),
    (Quarantine, "index_command"),
    (os, "replace"),
)
"""What an intake calls, in the order in which it does."""


@pytest.mark.parametrize(("owner", "name"), SHORT_OF_SPACE, ids=[name for _, name in SHORT_OF_SPACE])
async def test_a_proposal_without_space_leaves_no_scratch(gate_hive: GateHive, owner: object, name: str) -> None:
    """A proposal that a full disk keeps from being taken in is refused, and its scratch directory is removed."""
    scratch = gate_hive.layout.scratch
    await gate_hive.built("ada")  # Makes the directory that all intakes share.
    before = sorted(scratch.iterdir())
    tried: list[str] = []

    def without_space(*_: object, **__: object) -> None:
        tried.append(name)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sha = await asyncio.to_thread(gate_hive.commit, "ada", {"prompt.md": "You sing.\n"})
    with patch.object(owner, name, without_space):
        request = ProposeRequest(commit=sha, note="sing", agent="ada")
        error = await refused(gate_hive.gate.config_submissions.propose(request, ADA))
    assert (tried[0], error.code, error.status) == (name, "disk_full", 507)
    assert sorted(scratch.iterdir()) == before
    assert (await gate_hive.rows("ada"))[-1].number == 1
    await gate_hive.built("ada", "You dance.")
    await gate_hive.check()


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
async def test_a_full_disk_at_every_step_of_all_kinds(template: Template, name: str) -> None:
    """The same at all points, also for what has the same steps as others."""
    await check_every_point(template, name, all_points=True)
