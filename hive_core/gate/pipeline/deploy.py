"""Deployment of approved proposals, and the return to the deployment before if the agent does not become healthy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import structlog

from hive_core.errors import HiveError, conflict
from hive_core.gate import policy
from hive_core.gate.context import GateContext
from hive_core.gate.pipeline.provisioning import Provisioning, Removal
from hive_core.gate.policy import SYSTEM
from hive_core.gate.records import index, transitions
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import MoveMain, Transition
from hive_core.gate.subject.background import Step, is_temporary
from hive_core.infra.concurrency.threads import UPKEEP
from hive_core.infra.git.repository import Repository
from hive_core.infra.storage.disk_space import disk_full, is_lack_of_space
from hive_core.runtimes.base import BuildFailed
from hive_core.text import Quoted

_LOG_LINES = 10
_LOG_BYTES = 4_000
_SHOWN_ERROR = 1_000

log = structlog.get_logger(__name__)


@dataclass
class Restoration:
    """The return to the deployment before. `begun` is True while the agent may run on neither of the two."""

    begun: bool = False


class DeployStep:
    """Deploys approved proposals: one at a time per agent, and different agents in parallel."""

    def __init__(self, context: GateContext, provisioning: Provisioning, removal: Removal) -> None:
        self._context = context
        self._provisioning = provisioning
        self._removal = removal

    def start(self, agent: str, number: int) -> None:
        """Deploy an approved proposal in the background."""
        self._context.background.start(agent, number, lambda: self.run(agent, number))

    async def run(self, agent: str, number: int) -> None:
        """Deploy a proposal if it is approved. After an error that another attempt may not have, this has to be called
        again; after any other the proposal ends as failed.
        """
        context = self._context
        row = await context.row(agent, number)
        if row.state is not State.APPROVED:
            return
        try:
            end = await self._take_effect(row)
        except Exception as error:
            waits = context.background.may_wait_for_space(agent, number, error)
            if waits and not self._has_effect(row):
                raise
            end = partial(self.roll_back, row, why_failed(error, "deployment", row), Restoration())
        # Whatever came of it has to be written down, and is not done a second time.
        await context.background.persist(agent, number, context.locked(agent, end))

    async def roll_back(self, row: ProposalRow, why: str, restoration: Restoration) -> None:
        """Undo what an approved proposal has changed, and write `failed/N`, unless the proposal has ended.

        The caller must hold the agent's lock.
        """
        if not await self._is_open(row):
            return  # It was deployed or purged; the error came after that.
        if row.kind == "spawn" and self._has_effect(row):
            # The agent exists but cannot run; a failed spawn must leave no agent.
            await self._context.lifecycle.destroy(row.agent, "system", purge=False)
        elif row.kind != "spawn":
            why += await self.restore_deployed(row.agent, restoration)
        await self.fail(row, why)

    async def _take_effect(self, row: ProposalRow) -> Step:
        """Carry out an approved proposal. Returns the step that writes down what came of it, under the agent's lock."""
        context, agent = self._context, row.agent
        if row.kind not in ("spawn", "destroy"):
            why = await self._deploy(row)
            return partial(self.roll_back, row, why, Restoration()) if why else partial(self.succeed, row)
        async with context.locks[agent]:
            if row.kind == "spawn":
                await self._provisioning.create_agent(row)
            else:
                await self._removal.remove_agent(agent, purge=row.purge, actor=row.approvals[-1], besides=row.number)
        return partial(self.succeed, row)

    def _has_effect(self, row: ProposalRow) -> bool:
        """Return True if the configuration of the proposal is the active one of its agent."""
        record = self._context.agents.find(row.agent)
        return record is not None and row.kind != "destroy" and record.deployment == row.number

    async def _is_open(self, row: ProposalRow) -> bool:
        now = await self._context.database.read(lambda db: index.find(db, row.agent, row.number))
        # A proposal of the same number can be another one, after a purge of the agent.
        return now is not None and now.open and now.created_at == row.created_at

    async def _deploy(self, row: ProposalRow) -> str:
        """Activate the configuration and watch it. Returns the reason why it does not work, or ""."""
        context, agent = self._context, row.agent
        new = await context.active_config(row)
        if not await context.runtime.has(new.closure):
            why = f"what {agent}/{row.number} was built to is gone: {new.closure}"
            raise conflict("closure_gone", why, "propose it again, so that it is built again")
        transitions.crash_point("about to activate")
        runs = await context.deployments.deploy(agent, new)
        transitions.crash_point("activated")
        why = ""
        if runs:
            why = await context.deployments.wait_healthy(agent, new.number, context.settings.health_timeout)
            transitions.crash_point("watched")
        return why + await self._log_tail(agent) if why else ""

    async def restore_deployed(self, agent: str, restoration: Restoration | None = None) -> str:
        """Activate the last deployment if another one is active. Returns the reason in words if that fails, or "".

        With `restoration`, one that was begun is finished. Raises the errors that another attempt may not have.
        """
        context = self._context
        deployed = await context.database.read(lambda db: index.last_deployed(db, agent))
        if deployed is None or deployed.closure is None or not context.agents.exists(agent):
            return ""
        restoration = restoration or Restoration()
        if context.agents.record(agent).deployment == deployed.number and not restoration.begun:
            return ""
        restoration.begun = True
        try:
            old = await context.active_config(deployed)
            await context.deployments.deploy(agent, old)
        except (HiveError, OSError, ValueError) as error:
            if is_temporary(error):
                raise
            log.error("not put back", agent=agent, number=deployed.number, error=str(error))
            first = f"What was deployed before ({agent}/{deployed.number}) could not be put back:"
            return f"\n\n{first}\n{Quoted(str(error)).block(_SHOWN_ERROR)}"
        restoration.begun = False
        transitions.crash_point("put back")
        return ""

    async def succeed(self, row: ProposalRow) -> None:
        """Write `deployed/N`, move main, and withdraw proposals on top of the old main, unless the proposal has ended.

        The caller must hold the agent's lock.
        """
        if row.purge or not await self._is_open(row):
            return  # The agent was purged, with all of its proposals.
        context, agent = self._context, row.agent
        main = await context.in_repository(agent, Repository.main)
        data = row.tag(State.DEPLOYED, waits_for=None)
        changes = [Transition(data, row.commit, SYSTEM)]
        for other in await context.database.read(lambda db: index.open_of(db, agent)):
            if other.number == row.number or other.state not in (State.PROPOSAL, State.BUILT):
                continue  # A build in progress notices at its end that something else was deployed.
            why = _overtaken(other, row)
            if why:
                data = other.tag(State.WITHDRAWN, outcome=why, waits_for=None)
                changes.append(Transition(data, other.commit, SYSTEM))
        moved = MoveMain(row.commit, main) if main != row.commit and row.kind != "destroy" else None
        await context.transition_log.record(agent, changes, main=moved)
        await self._remove_old(agent)

    async def fail(self, row: ProposalRow, why: str) -> None:
        """Write `failed/N`, and move main back if it was moved already. The caller must hold the agent's lock."""
        context, agent = self._context, row.agent
        transition = Transition(row.tag(State.FAILED, outcome=why, waits_for=None), row.commit, SYSTEM)
        main = await context.in_repository(agent, Repository.main)
        before = await context.database.read(lambda db: index.last_deployed(db, agent))
        moved = None
        if before is not None and main == row.commit != before.commit:
            moved = MoveMain(before.commit, main)
        await context.transition_log.record(agent, [transition], main=moved)

    async def _remove_old(self, agent: str) -> None:
        """Release closures beyond `kept_deployments`, and remove temporary files of git."""
        context = self._context
        rows = await context.database.read(
            lambda db: [*index.deployments(db, agent, context.settings.kept_deployments), *index.open_of(db, agent)]
        )
        try:
            await context.runtime.keep(agent, {row.closure for row in rows if row.closure is not None})
            await context.in_repository(agent, Repository.tidy, UPKEEP)
        except (HiveError, OSError) as error:
            log.warning("not tidied up", agent=agent, error=str(error))

    async def _log_tail(self, agent: str) -> str:
        try:
            lines, _ = await self._context.runtime.read_log(
                agent, self._context.layout.agent_log(agent), _LOG_LINES, None, 0
            )
        except HiveError:
            return ""
        log_end = Quoted("\n".join(lines)).end(_LOG_BYTES)
        return f"\n\nThe last lines of its log, in its own words:\n{log_end.block(_LOG_BYTES)}" if log_end else ""


def _overtaken(other: ProposalRow, deployed: ProposalRow) -> str:
    """Return the reason to withdraw `other` after a deployment; empty if it goes on waiting.

    The newest deployment is the one with the highest number, so none with a lower number may follow it.
    """
    if deployed.kind == "destroy":
        return ""
    if other.base != deployed.commit:
        return policy.MAIN_MOVED
    return "" if other.kind == "destroy" or other.number > deployed.number else policy.SUPERSEDED


def why_failed(error: Exception, what: str, row: ProposalRow) -> str:
    """Return the reason for the failure of a build or deployment, in words for the proposer.

    Raises `stopping` again, because then the proposal has not failed.
    """
    if isinstance(error, HiveError):
        if error.code == "stopping":
            raise error
        return error.message
    if isinstance(error, BuildFailed):
        return str(error)
    if is_lack_of_space(error):
        return disk_full(f"carry out the {what}").message
    log.error(f"{what} failed unexpectedly", agent=row.agent, number=row.number, exc_info=error)
    return f"the {what} failed within the hive itself ({type(error).__name__}): its log tells more"
