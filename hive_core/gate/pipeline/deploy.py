"""From `approved/N` to `deployed/N` or `failed/N`: activation, watched, and undone if the agent does not come up."""

from __future__ import annotations

import structlog

from hive_core.errors import HiveError, conflict
from hive_core.gate import policy
from hive_core.gate.context import GateContext
from hive_core.gate.pipeline.provisioning import Provisioning, Removal
from hive_core.gate.policy import SYSTEM
from hive_core.gate.records import index, transitions
from hive_core.gate.records.commit import read_active_config
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import MoveMain, Transition
from hive_core.infra.git.repository import Repository
from hive_core.runtimes.base import BuildFailed
from hive_core.text import last_lines

_LOG_LINES = 10
_LOG_BYTES = 4_000

log = structlog.get_logger(__name__)


class DeployStep:
    """Carries approved proposals out: one at a time of one agent, those of different agents side by side."""

    def __init__(self, context: GateContext, provisioning: Provisioning, removal: Removal) -> None:
        self._context = context
        self._provisioning = provisioning
        self._removal = removal

    def start(self, agent: str, number: int) -> None:
        """Carry an approved proposal out in the background."""
        self._context.start_work(agent, number, self.run(agent, number))

    async def run(self, agent: str, number: int) -> None:
        """Deploy a proposal if it is approved, to its end: whatever goes wrong, it does not stay approved."""
        row = await self._context.row(agent, number)
        if row.state is not State.APPROVED:
            return
        try:
            if row.kind == "spawn":
                await self._spawn(row)
            elif row.kind == "destroy":
                await self._destroy(row)
            else:
                await self._deploy(row)
        except Exception as error:
            why = why_failed(error, "deployment", row)
            async with self._context.locks[agent]:
                await self.roll_back(row, why)

    async def roll_back(self, row: ProposalRow, why: str) -> None:
        """Put back what was deployed before, and plant `failed/N`. Under the agent's lock."""
        now = await self._context.database.read(lambda db: index.find(db, row.agent, row.number))
        # Not a deployment that is written down, or a purge: what went wrong came after.
        if now is not None and now.open:
            why += await self.restore_deployed(row.agent)
            await self.fail(row, why)

    async def _spawn(self, row: ProposalRow) -> None:
        async with self._context.locks[row.agent]:
            await self._provisioning.create_agent(row)
            await self.succeed(row)

    async def _destroy(self, row: ProposalRow) -> None:
        async with self._context.locks[row.agent]:
            await self._removal.remove_agent(row.agent, purge=row.purge, actor=row.approvals[-1], besides=row.number)
            if not row.purge:
                await self.succeed(row)

    async def _deploy(self, row: ProposalRow) -> None:
        context, agent = self._context, row.agent
        new = await context.in_repository(agent, lambda repository: read_active_config(repository, row))
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
        if why:
            why += await self._log_tail(agent)
        async with context.locks[agent]:
            await (self.roll_back(row, why) if why else self.succeed(row))

    async def restore_deployed(self, agent: str) -> str:
        """Run what is deployed, without building, if something else is in force: "", or why that failed, in words."""
        context = self._context
        deployed = await context.database.read(lambda db: index.last_deployed(db, agent))
        if deployed is None or deployed.closure is None or not context.agents.exists(agent):
            return ""
        if context.agents.record(agent).deployment == deployed.number:
            return ""
        try:
            old = await context.in_repository(agent, lambda repository: read_active_config(repository, deployed))
            await context.deployments.deploy(agent, old)
        except (HiveError, OSError, ValueError) as error:
            log.error("not put back", agent=agent, number=deployed.number, error=str(error))
            return f"\n\nWhat was deployed before ({agent}/{deployed.number}) could not be put back: {error}"
        transitions.crash_point("put back")
        return ""

    async def succeed(self, row: ProposalRow) -> None:
        """Plant `deployed/N`, move main, withdraw what was proposed on top of the old one. Under the agent's lock."""
        context, agent = self._context, row.agent
        main = await context.in_repository(agent, Repository.main)
        data = row.tag(State.DEPLOYED, waits_for=None)
        changes = [Transition(data, row.commit, SYSTEM)]
        for other in await context.database.read(lambda db: index.open_of(db, agent)):
            if other.number == row.number or other.state not in (State.PROPOSAL, State.BUILT):
                continue  # What is being built now sees at its end that something else was deployed.
            why = _overtaken(other, row)
            if why:
                data = other.tag(State.WITHDRAWN, outcome=why, waits_for=None)
                changes.append(Transition(data, other.commit, SYSTEM))
        moved = MoveMain(row.commit, main) if main != row.commit and row.kind != "destroy" else None
        await context.transition_log.record(agent, changes, main=moved)
        await self._remove_old(agent)

    async def fail(self, row: ProposalRow, why: str) -> None:
        """Plant `failed/N`. Under the agent's lock."""
        transition = Transition(row.tag(State.FAILED, outcome=why, waits_for=None), row.commit, SYSTEM)
        await self._context.transition_log.record(row.agent, [transition])

    async def _remove_old(self, agent: str) -> None:
        """Let go of closures that no rollback within `kept_deployments` needs, and of git's clutter."""
        context = self._context
        rows = await context.database.read(
            lambda db: [*index.deployments(db, agent, context.settings.kept_deployments), *index.open_of(db, agent)]
        )
        try:
            await context.runtime.keep(agent, {row.closure for row in rows if row.closure is not None})
            await context.in_repository(agent, Repository.tidy)
        except (HiveError, OSError) as error:
            log.warning("not tidied up", agent=agent, error=str(error))

    async def _log_tail(self, agent: str) -> str:
        try:
            lines, _ = await self._context.runtime.read_log(
                agent, self._context.layout.agent_log(agent), _LOG_LINES, None, 0
            )
        except HiveError:
            return ""
        tail = last_lines("\n".join(lines), _LOG_BYTES)
        return f"\n\nThe last lines of its log:\n{tail}" if tail else ""


def _overtaken(other: ProposalRow, deployed: ProposalRow) -> str:
    """Why a proposal that waits ends with this deployment; empty if it goes on waiting.

    The newest deployment is the one with the highest number: one with a lower number must not come after it.
    """
    if deployed.kind == "destroy":
        return ""
    if other.base != deployed.commit:
        return policy.MAIN_MOVED
    return "" if other.kind == "destroy" or other.number > deployed.number else policy.SUPERSEDED


def why_failed(error: Exception, what: str, row: ProposalRow) -> str:
    """Why a build or a deployment failed, in words for who proposed it. Raises what is no failure of the proposal's:
    the hive is stopping.
    """
    if isinstance(error, HiveError):
        if error.code == "stopping":
            raise error
        return error.message
    if isinstance(error, BuildFailed):
        return str(error)
    log.error(f"{what} failed unexpectedly", agent=row.agent, number=row.number, exc_info=error)
    return f"the {what} failed within the hive itself ({type(error).__name__}): its log tells more"
