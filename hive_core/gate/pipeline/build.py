"""Builds of proposals in the background."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import structlog

from hive_core.agents.grants import networks
from hive_core.agents.grants.offers import HostOffers
from hive_core.errors import HiveError
from hive_core.gate import policy
from hive_core.gate.auto_approval import Change
from hive_core.gate.context import GateContext
from hive_core.gate.intake.unknown_names import describe_unknown
from hive_core.gate.pipeline.deploy import DeployStep, why_failed
from hive_core.gate.pipeline.rules import RuleStep
from hive_core.gate.policy import SYSTEM
from hive_core.gate.records import index, settings_diff
from hive_core.gate.records.commit import read_config
from hive_core.gate.records.fetches import can_be_recorded, missing_reason
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State
from hive_core.gate.records.tag_message import ProposalTag
from hive_core.gate.records.transitions import Transition
from hive_core.gate.subject.background import Step, is_temporary
from hive_core.gate.subject.logs import ProposalLogs
from hive_core.infra.git.repository import Repository
from hive_core.protocol import AgentConfig, Kind
from hive_core.protocol.names import MANAGER
from hive_core.runtimes.base import BuildFailed, BuildOrder, FetchesMissing

log = structlog.get_logger(__name__)

_CHECK_SECONDS = 15.0
"""The time between two checks if builds work again."""
_BUILDS_AT_ONCE = 2
_COMPARE_SECONDS = 300.0
_NOT_COMPARED = (
    f"NOT COMPARED: the differences of what was built could not be found in {_COMPARE_SECONDS:g} s, "
    "so nothing is known of its packages, units, privileges and ports: a reason to deny"
)
"""Reviewers see this instead of the differences, and no rule approves the proposal."""
_UNDER_WAY = "another deployment was under way: propose again"
_TAIL_LINES = 40


@dataclass(frozen=True)
class BuildResult:
    """The result of a build. `tree` is that of the commit, with which the runtime has compared the files that it has
    built. `rule` is the name of the rule that approves it, if any.
    """

    closure: str
    tree: str
    settings: list[str]
    closure_changes: list[str]
    rule: str | None

    def tag(self, row: ProposalRow) -> ProposalTag:
        """Return the data of the tag `built/N`."""
        return row.tag(
            State.BUILT,
            closure=self.closure,
            tree=self.tree,
            settings=self.settings,
            closure_changes=self.closure_changes,
        )


class BuildStep:
    """Builds proposals and asks for their decision."""

    def __init__(self, context: GateContext, logs: ProposalLogs, deploy_step: DeployStep) -> None:
        self._context = context
        self._logs = logs
        self._deploy_step = deploy_step
        self._rules = RuleStep(context)
        self._builds = asyncio.Semaphore(_BUILDS_AT_ONCE)
        self._updates = asyncio.Semaphore(context.settings.nixos.updates_at_once)
        self._agent_locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def begin(self, agent: str, number: int) -> None:
        """Build a proposal in the background."""
        self._context.background.start(agent, number, lambda: self._run(agent, number))

    async def build(self, row: ProposalRow) -> BuildResult:
        """Build the commit of a proposal and describe the changes. Raises BuildFailed."""
        context, agent = self._context, row.agent
        kind: Kind = "manager" if agent == MANAGER else "agent"
        repository = context.layout.applied_repository(agent)
        allowed = frozenset() if row.allowed_fetches is None else row.allowed_fetches.derivations
        order = BuildOrder(agent, kind, row.number, repository, row.commit, allowed)
        # One build per agent, so that the proposals of one agent do not keep those of others waiting.
        async with self._agent_locks[agent], self._builds, self._logs.writing(agent, row.number) as say:
            before = await context.database.read(lambda db: index.last_deployed(db, agent))
            try:
                if row.kind == "rebuild":
                    await self._rules.check_inherited(row, order, before)
                async with asyncio.timeout(context.settings.build_timeout):
                    closure = await context.runtime.build(order, say)
            except TimeoutError:
                raise BuildFailed(f"the build took longer than {context.settings.build_timeout:g} s") from None
            except BuildFailed as error:
                say(f"failed: {self.reason(row, error)}")
                raise
            say(f"built {closure}")
            older = await context.database.read(
                partial(networks.are_older, agent=agent, commits=(row.base, row.commit))
            )
            tree, old, new, paths = await context.in_repository(
                agent, lambda repository: _changes(repository, row, older)
            )
            rule = None
            if row.kind == "config" and old is not None:
                rule = await self._rules.find_rule(row, order, Change(paths, old, new), say)
        closure_changes = await self._compare(before.closure if before is not None else None, closure)
        if closure_changes is None:
            closure_changes, rule = [_NOT_COMPARED], None
        offers = HostOffers.read(context.settings)
        settings = (
            settings_diff.describe_changes(old, new)
            + offers.describe(old, new)
            + self._unknown_names(row.agent, old, new)
        )
        return BuildResult(closure, tree, settings, closure_changes, rule)

    def _unknown_names(self, agent: str, old: AgentConfig | None, new: AgentConfig) -> list[str]:
        """Describe the unknown names of `new` that `old` did not have."""
        agents, allowed = self._context.directory.known_to(agent), self._context.settings.egress.allow
        before = [] if old is None else describe_unknown(old, agents, allowed)
        return [line for line in describe_unknown(new, agents, allowed) if line not in before]

    async def _compare(self, old: str | None, new: str) -> list[str] | None:
        """Return the differences of two closures, None if they cannot be found in time."""
        try:
            async with asyncio.timeout(_COMPARE_SECONDS):
                return await self._context.runtime.compare(old, new)
        except TimeoutError:
            return None

    async def _run(self, agent: str, number: int) -> None:
        """Build a proposal, and deploy it if nobody has to decide on it."""
        row = await self._context.row(agent, number)
        # `updates_at_once` limits rebuilds together with their deployments, because these restart agents.
        async with self._updates if row.kind == "rebuild" else nullcontext():
            await self._build(agent, number)
            await self._deploy_step.run(agent, number)

    async def _build(self, agent: str, number: int) -> None:
        """Build a proposal up to its decision, if it is not built yet."""
        context = self._context
        await self._wait_for_working_builds(agent, number)
        async with context.locks[agent]:
            row = await context.row(agent, number)
            if row.state is State.PROPOSAL:
                change = Transition(row.tag(State.BUILDING), row.commit, SYSTEM)
                (row,) = await context.transition_log.record(agent, [change])
        if row.state is not State.BUILDING:
            return
        end: Step
        try:
            built = await self.build(row)
        except Exception as error:
            if context.background.may_wait_for_space(agent, number, error):
                raise
            end = partial(self.fail, row, error)
        else:
            end = partial(self._settle_or_fail, row, built)
        # The build is not repeated only because its result cannot be written down now.
        await context.background.persist(agent, number, context.locked(agent, end))

    async def _wait_for_working_builds(self, agent: str, number: int) -> None:
        """Wait while this host cannot build anything. The proposal keeps its state meanwhile."""
        logged = False
        while True:
            try:
                return await self._context.runtime.check_can_build()
            except HiveError as error:
                if not logged:
                    log.warning("proposal waits until builds work", agent=agent, number=number, reason=error.message)
                logged = True
            await asyncio.sleep(_CHECK_SECONDS)

    async def _settle_or_fail(self, row: ProposalRow, built: BuildResult) -> None:
        try:
            await self._settle(row, built)
        except HiveError as error:
            if is_temporary(error):
                raise
            await self.fail(row, error)

    async def _settle(self, row: ProposalRow, built: BuildResult) -> None:
        """Write `built/N` and ask for a decision, or approve the proposal if none is needed."""
        context = self._context
        if (await context.row(row.agent, row.number)).state is not State.BUILDING:
            return
        data = built.tag(row)
        decision = policy.decision_request(row.kind, row.by, row.agent, has_manager=context.has_manager)
        decider = policy.next_decider(context.settings.approval, decision, [])
        newest = await context.database.read(lambda db: index.last_deployed(db, row.agent))
        under_way = await context.database.read(lambda db: index.deployment_in_progress(db, row.agent)) is not None
        overtaken = newest is not None and newest.number > row.number  # Main may have returned to the same commit.
        why = ""
        if overtaken or await context.in_repository(row.agent, Repository.main) != row.base:
            why = policy.MAIN_MOVED
        elif decider is None and under_way:
            why = _UNDER_WAY
        elif row.kind == "rebuild" and newest is not None and self._is_up_to_date(newest, built):
            why = policy.UP_TO_DATE
        if why:
            gone = Transition(replace(data, state=State.WITHDRAWN, outcome=why), row.commit, SYSTEM)
            await context.transition_log.record(row.agent, [Transition(data, row.commit, SYSTEM), gone])
            return
        approvals: list[str] = []
        if row.kind == "rebuild" and newest is not None:
            approvals = policy.inherited_approvals(newest.number, newest.approvals)
        elif built.rule is not None:
            approvals = [policy.approval_by_rule(built.rule)]
        elif decider is None:
            approvals = [row.by]  # The operator proposed it, and nobody else can decide.
        transition = Transition(replace(data, waits_for=decider), row.commit, SYSTEM)
        if approvals and not under_way:
            approved = replace(data, state=State.APPROVED, approvals=approvals)
            await context.transition_log.record(row.agent, [transition, Transition(approved, row.commit, SYSTEM)])
            return
        await context.transition_log.record(row.agent, [transition])

    def _is_up_to_date(self, deployed: ProposalRow, built: BuildResult) -> bool:
        """Return True if a rebuild made what is deployed, unless the agent does not run because that was missing."""
        agents = self._context.agents
        record, unit = agents.find(deployed.agent), agents.unit(deployed.agent)
        waits = record is not None and record.desired == "running" and (unit is None or unit.lifecycle == "failed")
        return self._context.layout.is_same_closure(deployed.closure, built.closure) and not waits

    def reason(self, row: ProposalRow, error: Exception) -> str:
        """Return the reason of a failed build. Raises `stopping` again, because then the proposal has not failed."""
        if isinstance(error, FetchesMissing):
            return missing_reason(error.fetches, f"{row.agent}/{row.number}")
        return why_failed(error, "build", row)

    async def fail(self, row: ProposalRow, error: Exception) -> None:
        """Write `failed/N` after an error of the build, unless the proposal has ended.

        The caller must hold the agent's lock. Raises `stopping` again.
        """
        why = self.reason(row, error)
        if not (await self._context.row(row.agent, row.number)).open:
            return
        missing = error.fetches if isinstance(error, FetchesMissing) else ()
        tail = await self._logs.tail(row.agent, row.number, _TAIL_LINES)
        recorded = list(missing) if can_be_recorded(missing) else []
        data = row.tag(State.FAILED, outcome=why, log_tail=tail, missing_fetches=recorded)
        await self._context.transition_log.record(row.agent, [Transition(data, row.commit, SYSTEM)])


def _changes(
    repository: Repository, row: ProposalRow, older: Collection[str]
) -> tuple[str, AgentConfig | None, AgentConfig, list[str]]:
    """Return the tree of the commit, the settings before and after it, and the paths that it changes.

    `older` are those of the two commits for which the host's network is the default.
    """

    def read(commit: str) -> AgentConfig:
        config = read_config(repository, commit)
        return config.with_host_default() if commit in older else config

    old = read(row.base) if row.base is not None else None
    new, paths = read(row.commit), repository.changed_paths(row.base, row.commit)
    return repository.tree(row.commit), old, new, paths
