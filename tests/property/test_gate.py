"""The gate against any sequence of requests, legal and not, with deaths of the daemon between any two of its steps, and
with a disk that is full for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from subprocess import CalledProcessError
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from hive_core.errors import HiveError
from hive_core.gate.policy import Principal
from hive_core.gate.records.compared import was_compared
from hive_core.layout import Layout
from hive_core.protocol import (
    ApproveRequest,
    DenyRequest,
    DestroyProposal,
    DestroyRequest,
    ProposalState,
    ProposeRequest,
    PruneRequest,
    RollbackRequest,
    SpawnProposal,
    SpawnRequest,
    WithdrawRequest,
)
from hive_core.settings import Approval, AutoRule
from tests.integration.gate.hostile_commits import REFUSED_CONTENTS, Content
from tests.unit.core.gate.faults.crash_points import SimulatedCrash
from tests.unit.core.gate.faults.fake_disk import FakeDisk, idle
from tests.unit.core.gate.gate_hive import ADA, BOB, MANAGER, OPERATOR, GateHive, opened, quick
from tests.unit.core.gate.hive_template import Template
from tests.unit.core.gate.queries import older_hive

EXPECTED = frozenset(
    {
        "agent_exists",
        "already_proposed",
        "closure_gone",
        "deployment_under_way",
        "invalid_request",
        "no_missing_fetches",
        "no_repository",
        "not_decider",
        "not_rebased",
        "not_yours",
        "nothing_changed",
        "own_proposal",
        "stale_state",
        "unknown_agent",
        "unknown_deployment",
        "unknown_proposal",
    }
)
"""The errors that requests may get here; any other is a fault of the gate."""

agents = st.sampled_from(("ada", "bob"))
numbers = st.integers(0, 5)
parties = st.sampled_from((ADA, BOB, MANAGER, MANAGER, OPERATOR, OPERATOR))
deciders = st.sampled_from((MANAGER, MANAGER, OPERATOR, OPERATOR, ADA))
roles = st.sampled_from(("You sing.", "You bake.", "SILENT", "CRASHES", "FETCHES https://a.example/x"))
states: st.SearchStrategy[ProposalState] = st.sampled_from(("built", "built", "built", "proposal", "approved"))
deaths = st.one_of(st.none(), st.none(), st.integers(1, 12))
"""The number of the crash point from now on at which the daemon dies, or None."""
policies = st.sampled_from(
    (
        Approval(),
        Approval(config="both", destroy="manager"),
        Approval(rules=[AutoRule(name="prompts", when="prompt_only")]),
    )
)


class GateMachine(RuleBasedStateMachine):
    """Every rule is one request; with `dies` the daemon is killed that many steps later and started again."""

    copied: ClassVar[Callable[[], Layout]]

    @initialize(approval=policies)
    def open_hive(self, approval: Approval) -> None:
        self.runner = asyncio.Runner()
        self.layout = type(self).copied()
        self.settings = quick(self.layout, approval)
        self.hyperhive = ""
        self.logs = capture_logs()
        self.logs.__enter__()
        self.run(self.start())

    def run(self, work: Coroutine[Any, Any, object]) -> None:
        self.runner.run(work)

    async def start(self) -> None:
        """Start a new daemon, and wait until it has recovered."""
        self.death = SimulatedCrash()
        self.life = AsyncExitStack()
        self.life.enter_context(self.death.armed())
        scene = opened(self.layout, self.settings, born=self.death.born, hyperhive=self.hyperhive)
        self.gate_hive: GateHive = await self.life.enter_async_context(scene)
        await self.gate_hive.gate.maintenance.reindex()

    async def request(self, work: Coroutine[Any, Any, object], dies: int | None) -> None:
        """Make a request, and check its answer; with `dies` the daemon is killed during it or its background work."""
        if dies is not None:
            self.death.at = len(self.death.reached) + dies
        try:
            await self.death.during(work)
        except HiveError as error:
            assert error.code in EXPECTED, error
        if dies is not None:
            await self.death.during(self.gate_hive.settled())
            self.death.die()  # At the latest now, if there are not so many steps.
            await self.life.aclose()
            await self.start()

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            if hasattr(self, "gate_hive"):
                self.run(self.end())
        finally:
            self.run(self.life.aclose())
            self.runner.close()
            self.logs.__exit__(None, None, None)

    async def end(self) -> None:
        """Wait for all background work, decide the rest, and check that everything agrees."""
        gate_hive = self.gate_hive
        await gate_hive.settled()
        await gate_hive.check()
        for row in await gate_hive.rows():
            if row.open:
                assert row.waits_for is not None
                principal = MANAGER if row.by == OPERATOR.label else OPERATOR
                await gate_hive.deny(row.agent, row.number, principal)
        assert not [row for row in await gate_hive.rows() if row.open]
        await gate_hive.check()

    @rule(agent=agents, role=roles, other=st.one_of(st.none(), parties), dies=deaths)
    def propose(self, agent: str, role: str, other: Principal | None, dies: int | None) -> None:
        self.propose_role(agent, role, other, dies)

    @rule(agent=agents, role=roles, dies=deaths)
    def upgrade(self, agent: str, role: str, dies: int | None) -> None:
        """Propose to an older hive, and go on with the new one: nothing waits that was not compared with its commit."""

        async def restart() -> None:
            self.death.die()
            await self.life.aclose()
            await self.start()

        with older_hive():
            self.propose_role(agent, role, None, dies)
            self.run(self.gate_hive.settled())
        self.run(restart())
        for row in self.runner.run(self.gate_hive.rows()):
            if row.state in ("built", "approved"):
                assert was_compared(self.gate_hive.repository(row.agent), row), row

    def propose_role(self, agent: str, role: str, other: Principal | None, dies: int | None) -> None:
        """Propose that role for the agent, if there is one."""
        gate_hive = self.gate_hive
        if not gate_hive.hive.agents.exists(agent):
            return
        try:
            sha = gate_hive.commit(agent, {"prompt.md": f"{role}\n"}, on=gate_hive.main(agent))
        except (HiveError, OSError, CalledProcessError):
            return  # It is being purged.
        request = ProposeRequest(commit=sha, note=f"because: {role}", agent=agent)
        principal = other or {"ada": ADA, "bob": BOB}[agent]
        self.run(self.request(gate_hive.gate.config_submissions.propose(request, principal), dies))

    @rule(agent=agents, content=st.sampled_from(REFUSED_CONTENTS))
    def propose_what_hides_something(self, agent: str, content: Content) -> None:
        """No commit that a reviewer could not see in whole becomes a proposal, whatever else is going on."""
        gate_hive = self.gate_hive
        if not gate_hive.hive.agents.exists(agent):
            return
        try:
            sha = gate_hive.commit(agent, content.files, on=gate_hive.main(agent))
        except (HiveError, OSError, CalledProcessError):
            return  # It is being purged.

        async def work() -> None:
            request = ProposeRequest(commit=sha, note="please", agent=agent)
            with pytest.raises(HiveError) as refused:
                await gate_hive.gate.config_submissions.propose(request, {"ada": ADA, "bob": BOB}[agent])
            assert refused.value.code in {content.code, *EXPECTED}, refused.value
            assert sha not in [row.commit for row in await gate_hive.rows()]

        self.run(work())

    @rule(agent=agents, number=numbers, principal=deciders, expect=states, dies=deaths)
    def approve(self, agent: str, number: int, principal: Principal, expect: ProposalState, dies: int | None) -> None:
        request = ApproveRequest(expect=expect, note="fine")
        self.run(self.request(self.gate_hive.gate.decisions.approve(agent, number, request, principal), dies))

    @rule(which=st.integers(0, 3), dies=deaths)
    def approve_what_waits(self, which: int, dies: int | None) -> None:
        """Approve as the party that is asked: random numbers and parties seldom match."""

        async def work() -> None:
            waiting = [row for row in await self.gate_hive.rows() if row.waits_for is not None]
            if waiting:
                row = waiting[which % len(waiting)]
                principal = OPERATOR if row.waits_for == "operator" else MANAGER
                await self.gate_hive.approve(row.agent, row.number, principal)

        self.run(self.gate_hive.settled())
        self.run(self.request(work(), dies))

    @rule(which=st.integers(0, 3), principal=st.sampled_from((OPERATOR, OPERATOR, MANAGER, ADA)), dies=deaths)
    def allow_fetches(self, which: int, principal: Principal, dies: int | None) -> None:
        """Allow the fetches of a proposal that has failed, for want of them or for another reason."""

        async def work() -> None:
            failed = [row for row in await self.gate_hive.rows() if row.state == "failed"]
            if failed:
                row = failed[which % len(failed)]
                await self.gate_hive.allow_fetches(row.agent, row.number, principal)

        self.run(self.gate_hive.settled())
        self.run(self.request(work(), dies))

    @rule(agent=agents, number=numbers, principal=deciders, dies=deaths)
    def deny(self, agent: str, number: int, principal: Principal, dies: int | None) -> None:
        request = DenyRequest(expect="built", note="no")
        self.run(self.request(self.gate_hive.gate.decisions.deny(agent, number, request, principal), dies))

    @rule(agent=agents, number=numbers, principal=parties, dies=deaths)
    def withdraw(self, agent: str, number: int, principal: Principal, dies: int | None) -> None:
        self.run(
            self.request(self.gate_hive.gate.decisions.withdraw(agent, number, WithdrawRequest(), principal), dies)
        )

    @rule(agent=agents, number=st.one_of(st.none(), numbers), principal=deciders, dies=deaths)
    def roll_back(self, agent: str, number: int | None, principal: Principal, dies: int | None) -> None:
        request = RollbackRequest(number=number, note="back")
        self.run(self.request(self.gate_hive.gate.decisions.rollback(agent, request, principal), dies))

    @rule(agent=agents, principal=parties, hyperhive=st.sampled_from(("", "newer", "newest")), dies=deaths)
    def rebuild(self, agent: str, principal: Principal, hyperhive: str, dies: int | None) -> None:
        """Rebuild with the same hyperhive or another one."""
        self.hyperhive = self.gate_hive.runtime.hyperhive = hyperhive
        self.run(self.request(self.gate_hive.rebuild(agent, principal), dies))

    @rule(agent=agents, dies=deaths)
    def prune(self, agent: str, dies: int | None) -> None:
        """Remove the files of all proposals that have ended without being deployed."""
        request = PruneRequest(agent=agent, older_than_days=0)
        self.run(self.request(self.gate_hive.gate.pruning.prune(request, OPERATOR), dies))

    @rule(agent=agents, start=st.booleans(), dies=deaths)
    def spawn(self, agent: str, start: bool, dies: int | None) -> None:
        self.run(
            self.request(
                self.gate_hive.gate.agent_submissions.spawn(SpawnRequest(name=agent, start=start), OPERATOR), dies
            )
        )

    @rule(agent=agents, principal=deciders, dies=deaths)
    def request_spawn(self, agent: str, principal: Principal, dies: int | None) -> None:
        self.run(
            self.request(
                self.gate_hive.gate.agent_submissions.request_spawn(
                    SpawnProposal(name=agent, note="please"), principal
                ),
                dies,
            )
        )

    @rule(agent=agents, purge=st.booleans(), dies=deaths)
    def destroy(self, agent: str, purge: bool, dies: int | None) -> None:
        self.run(
            self.request(
                self.gate_hive.gate.agent_submissions.destroy(agent, DestroyRequest(purge=purge), OPERATOR), dies
            )
        )

    @rule(agent=agents, purge=st.booleans(), principal=deciders, dies=deaths)
    def request_destroy(self, agent: str, purge: bool, principal: Principal, dies: int | None) -> None:
        request = DestroyProposal(note="idle", purge=purge)
        self.run(self.request(self.gate_hive.gate.agent_submissions.request_destroy(agent, request, principal), dies))

    @rule(
        agent=agents,
        role=roles,
        what=st.sampled_from(("propose", "approve", "roll back", "spawn")),
        at=st.integers(0, 9),
    )
    def request_on_a_full_disk(self, agent: str, role: str, what: str, at: int) -> None:
        """The disk is full from some step on, and then has room again: without a restart, everything moves on."""
        gate_hive = self.gate_hive

        async def request() -> None:
            waiting = [row for row in await gate_hive.rows() if row.waits_for is not None]
            if what == "spawn":
                await gate_hive.spawn(agent)
            elif what == "roll back":
                request = RollbackRequest(note="back")
                await gate_hive.gate.decisions.rollback(agent, request, OPERATOR)
            elif what == "approve" and waiting:
                row = waiting[-1]
                await gate_hive.approve(row.agent, row.number, OPERATOR if row.waits_for == "operator" else MANAGER)
            elif gate_hive.hive.agents.exists(agent):
                await gate_hive.propose(agent, role)

        async def work() -> None:
            await gate_hive.settled()
            disk = FakeDisk(at)
            with disk.under(gate_hive):
                try:
                    async with asyncio.timeout(10):
                        await request()
                except HiveError as error:
                    assert error.code in EXPECTED | {"disk_full"}, error
                ended, waited = asyncio.create_task(idle(gate_hive)), asyncio.create_task(disk.waited_for.wait())
                await asyncio.wait({ended, waited}, return_when=asyncio.FIRST_COMPLETED)
                waited.cancel()
                disk.free()
                await ended
                await gate_hive.check()

        self.run(work())

    @rule()
    def time_passes(self) -> None:
        """Let all background work end."""
        self.run(self.gate_hive.settled())

    @rule(agent=agents)
    def stopped_or_started(self, agent: str) -> None:
        record, lifecycle = self.gate_hive.hive.agents.find(agent), self.gate_hive.hive.lifecycle
        if record is not None:
            change = lifecycle.stop if record.desired == "running" else lifecycle.start
            self.run(change(agent, "operator"))


@pytest.fixture(scope="module")
def machine() -> Any:
    """The state machine, with a hive to copy."""
    template = Template()
    # With something to roll back to, and something to decide on.
    GateMachine.copied = asyncio.run(template.grown(prepare, quick(template.layout)))
    yield GateMachine
    template.remove()


async def prepare(gate_hive: GateHive) -> None:
    await gate_hive.deploy("ada", "You bake.")
    await gate_hive.built("bob", "You bake.")


@pytest.mark.timeout(3_600)  # In the soak profile.
def test_the_gate_keeps_its_house_in_order(machine: type[GateMachine]) -> None:
    """Whatever is asked for and whenever the daemon dies: tags, index, audit table, main and what runs agree."""
    # Fewer than of other properties: each example is a hive with dozens of commands of git.
    run_state_machine_as_test(
        machine, settings=settings(max_examples=settings().max_examples // 2, stateful_step_count=12)
    )
