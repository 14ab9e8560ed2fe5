"""The gate of work against any sequence of requests, with deaths of the daemon between any two of its steps, and an
upstream that moves or cannot be reached.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from hive_core.errors import HiveError
from hive_core.gate.policy import Principal
from hive_core.gate.subject import background
from hive_core.layout import Layout
from tests.unit.core.gate.faults.crash_points import SimulatedCrash
from tests.unit.core.work.gate.work_hive import (
    ADA,
    BOB,
    MANAGER,
    OPERATOR,
    FakeCheck,
    FakeRecord,
    WorkHive,
    git,
    opened,
)
from tests.unit.core.work.gate.work_hive import prepare as prepare_mirror

EXPECTED = frozenset(
    {
        "already_proposed",
        "not_decider",
        "not_rebased",
        "not_yours",
        "nothing_changed",
        "own_proposal",
        "stale_state",
        "unknown_work",
    }
)
"""The errors that requests may get here; any other is a fault of the gate."""

makers = st.sampled_from((ADA, ADA, BOB, MANAGER))
deciders = st.sampled_from((None, None, None, MANAGER, OPERATOR, ADA))
"""The party that decides; None: the one that is asked, as random ones seldom match."""
which = st.integers(0, 3)
names = st.sampled_from(("one", "two", "app.py", "BROKEN"))
"""Files that work changes: work on the same one conflicts, and that with BROKEN does not pass its checks."""
deaths = st.one_of(st.none(), st.none(), st.integers(1, 14))
"""The number of the crash point from now on at which the daemon dies, or None."""
records = st.builds(
    partial(FakeRecord, source="https://git.example/web"),
    merges=st.booleans(),
    push=st.sampled_from(("none", "branch")),
    review=st.sampled_from(("manager", "both", "agent:bob")),
    checks=st.sampled_from(((), (FakeCheck("test"),))),
)
UNREACHABLE = HiveError("upstream_unreachable", "no route", status=502)


class WorkMachine(RuleBasedStateMachine):
    """Every rule is one request; with `dies` the daemon is killed that many steps later and started again."""

    prepared: ClassVar[Path]

    @initialize(record=records)
    def open_hive(self, record: FakeRecord) -> None:
        self.record = record
        self.count = 0
        self.theirs: list[str] = []
        self.runner = asyncio.Runner()
        self.outer = ExitStack()
        self.outer.enter_context(capture_logs())
        self.outer.enter_context(patch.object(background, "_FIRST_PAUSE", 0.01))
        home = Path(self.outer.enter_context(tempfile.TemporaryDirectory(prefix="hive-work-")), "hive")
        shutil.copytree(type(self).prepared, home, symlinks=True)
        self.layout = Layout(home / "state", home / "run")
        self.run(self.start())

    def run(self, work: Coroutine[Any, Any, object]) -> None:
        self.runner.run(work)

    async def start(self) -> None:
        """Start a new daemon, and wait until it has recovered."""
        self.death = SimulatedCrash()
        self.life = AsyncExitStack()
        self.life.enter_context(self.death.armed())
        self.hive: WorkHive = await self.life.enter_async_context(opened(self.layout, self.record))
        self.death.guard(self.hive.database, "submit", "write")
        await self.hive.gate._context.ready()

    async def request(self, work: Coroutine[Any, Any, object], dies: int | None) -> None:
        """Make a request, and check its answer; with `dies` the daemon is killed during it or its background work."""
        if dies is not None:
            self.death.at = len(self.death.reached) + dies
        try:
            await self.death.during(work)
        except HiveError as error:
            assert error.code in EXPECTED, error
        if dies is not None:
            await self.death.during(self.idle())
            self.death.die()  # At the latest now, if there are not so many steps.
            await self.life.aclose()
            await self.start()

    async def idle(self) -> None:
        """Wait until all background work has ended."""
        work = self.hive.gate._context.background
        async with asyncio.timeout(30):
            while work._work:
                work.ended.clear()
                await work.ended.wait()

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            if hasattr(self, "hive"):
                self.run(self.end())
        finally:
            self.run(self.life.aclose())
            self.runner.close()
            self.outer.close()

    async def end(self) -> None:
        """Wait for all background work, decide the rest, and check that everything agrees."""
        await self.idle()
        await self.check()
        for row in await self.hive.rows():
            if row.open:
                assert row.waits_for is not None
                await self.hive.deny(row.number, OPERATOR)
        assert not [row for row in await self.hive.rows() if row.open]
        await self.check()

    async def check(self) -> None:
        """Check that tags, index, audit table, mirror and branch agree, and that no commit of upstream is lost."""
        await self.hive.check()
        assert (await self.hive.gate.verification.verify()).problems == []
        history = git(self.layout.mirror("web"), "rev-list", "refs/heads/main").split("\n")
        assert set(self.theirs) <= set(history)
        for row in await self.hive.rows():
            assert bool(row.link) == (row.state == "deployed" and self.record.push != "none")

    def upstream_goes_on(self, name: str) -> None:
        """Move the branch as a fetch does."""
        self.count += 1
        self.theirs.append(self.hive.land_elsewhere({name: f"theirs {self.count}\n"}))

    @rule(maker=makers, name=names, stale=st.booleans(), dies=deaths)
    def submit(self, maker: Principal, name: str, stale: bool, dies: int | None) -> None:
        """Submit a change of one file, on the branch or on its first commit."""
        self.count += 1
        first = git(self.layout.mirror("web"), "rev-list", "--max-parents=0", "refs/heads/main")
        sha = self.hive.commit({name: f"{self.count}\n"}, maker.name, on=first if stale else None)
        self.run(self.request(self.hive.submit(sha, maker), dies))

    @rule(number=which, decider=deciders, approves=st.sampled_from((True, True, False)), dies=deaths)
    def decide(self, number: int, decider: Principal | None, approves: bool, dies: int | None) -> None:
        """Approve or deny what waits."""

        async def work() -> None:
            waiting = [row for row in await self.hive.rows() if row.waits_for is not None]
            if waiting:
                row = waiting[number % len(waiting)]
                asked = {"manager": MANAGER, "operator": OPERATOR, "agent:bob": BOB}[str(row.waits_for)]
                answer = self.hive.approve if approves else self.hive.deny
                await answer(row.number, decider or asked)

        self.run(self.idle())
        self.run(self.request(work(), dies))

    @rule(number=which, name=names)
    def approve_while_upstream_moves(self, number: int, name: str) -> None:
        """Approve everything that waits, while each fetch brings a commit, or fails."""
        self.run(self.idle())
        calls: list[int] = []

        def on_fetch() -> None:
            calls.append(len(calls))
            if len(calls) == number:
                raise UNREACHABLE
            if len(calls) <= 2:
                self.upstream_goes_on(name)

        async def work() -> None:
            self.hive.mirrors.on_fetch = on_fetch
            for row in await self.hive.rows():
                if row.waits_for is not None and row.by != OPERATOR.label:
                    try:
                        await self.hive.approve(row.number, OPERATOR)
                    except HiveError as error:
                        assert error.code in EXPECTED, error
            await self.idle()
            self.hive.mirrors.on_fetch = lambda: None

        self.run(work())

    @rule(name=names)
    def upstream_moves(self, name: str) -> None:
        self.upstream_goes_on(name)

    @rule(number=st.integers(1, 5), party=makers, dies=deaths)
    def withdraw(self, number: int, party: Principal, dies: int | None) -> None:
        self.run(self.request(self.hive.withdraw(number, party), dies))

    @rule(number=which, party=st.sampled_from((OPERATOR, MANAGER, BOB)), dies=deaths)
    def retry(self, number: int, party: Principal, dies: int | None) -> None:
        """Submit work that has failed or was withdrawn once more."""

        async def work() -> None:
            ended = [row for row in await self.hive.rows() if row.state in ("failed", "withdrawn", "deployed")]
            if ended:
                await self.hive.retry(ended[number % len(ended)].number, party)

        self.run(self.request(work(), dies))

    @rule()
    def time_passes(self) -> None:
        """Let all background work end."""
        self.run(self.idle())


@pytest.fixture(scope="module")
def machine() -> Iterator[type[WorkMachine]]:
    """The state machine, with a hive to copy."""
    with tempfile.TemporaryDirectory(prefix="hive-work-") as home:
        WorkMachine.prepared = Path(home)
        prepare_mirror(Layout(Path(home, "state"), Path(home, "run")))
        yield WorkMachine


@pytest.mark.timeout(3_600)  # In the soak profile.
@pytest.mark.parametrize("share", [25, pytest.param(2, marks=pytest.mark.thorough)])
def test_branch_and_tags_agree(machine: type[WorkMachine], share: int) -> None:
    """Whatever is asked for and whenever the daemon dies: branch, tags, index and audit agree, and nothing is lost."""
    # Fewer than of other properties: each example is a hive with dozens of commands of git.
    run_state_machine_as_test(
        machine, settings=settings(max_examples=settings().max_examples // share, stateful_step_count=8)
    )
