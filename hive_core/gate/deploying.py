"""From `approved/N` to `deployed/N` or `failed/N`: activation, watched, and undone if the agent does not come up."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from hive_core.agents.records import InForce
from hive_core.errors import HiveError, conflict
from hive_core.gate import index, milestones, notices, policy
from hive_core.gate.contents import in_force
from hive_core.gate.ending import Ending
from hive_core.gate.founding import Founding
from hive_core.gate.index import Row
from hive_core.gate.ledger import MoveMain, Notice, Step
from hive_core.gate.parties import SYSTEM, asked, name_in
from hive_core.gate.quoting import last_lines
from hive_core.gate.states import State
from hive_core.gate.workplace import Workplace
from hive_core.git.repository import Repository
from hive_core.names import MANAGER, OPERATOR

_LOG_LINES = 10
_LOG_BYTES = 4_000

log = structlog.get_logger(__name__)


class Deploying:
    """Carries approved proposals out: one at a time of one agent, those of different agents side by side."""

    def __init__(self, place: Workplace, founding: Founding, ending: Ending) -> None:
        self._place = place
        self._founding = founding
        self._ending = ending

    def follow(self, agent: str, number: int) -> None:
        """Carry an approved proposal out in the background."""
        self._place.begin(agent, number, self._carry_out(agent, number))

    async def _carry_out(self, agent: str, number: int) -> None:
        row = await self._place.row(agent, number)
        if row.state is not State.APPROVED:
            return
        try:
            if row.kind == "spawn":
                await self._spawn(row)
            elif row.kind == "destroy":
                await self._destroy(row)
            else:
                await self._deploy(row)
        except HiveError as error:
            if error.code == "stopping":
                raise
            async with self._place.locks[agent]:
                await self.fail(row, error.message)

    async def _spawn(self, row: Row) -> None:
        start, _ = await self._founding.flags(row)
        async with self._place.locks[row.agent]:
            await self._founding.create(row, start=start)
            await self.succeed(row)

    async def _destroy(self, row: Row) -> None:
        _, purge = await self._founding.flags(row)
        async with self._place.locks[row.agent]:
            await self._ending.end(row.agent, purge=purge, actor=row.approvals[-1], besides=row.number)
            if not purge:
                await self.succeed(row)

    async def _deploy(self, row: Row) -> None:
        place, agent = self._place, row.agent
        new = await place.with_repository(agent, lambda repository: in_force(repository, row))
        if not await place.runtime.has(new.closure):
            why = f"what {agent}/{row.number} was built to is gone: {new.closure}"
            raise conflict("closure_gone", why, "propose it again, so that it is built again")
        milestones.reached("about to activate")
        why = await self._activate(agent, new)
        milestones.reached("watched")
        if why:
            await self._put_back(row)
        async with place.locks[agent]:
            await (self.fail(row, why) if why else self.succeed(row))

    async def _activate(self, agent: str, new: InForce) -> str:
        """Put it in force and wait until the agent reports in: "", or why that is not to be."""
        place = self._place
        try:
            runs = await place.agents.deploy(agent, new)
        except HiveError as error:
            if error.code in ("stopping", "unknown_agent"):
                raise
            return error.message
        milestones.reached("activated")
        if not runs:
            return ""
        why = await place.agents.wait_healthy(agent, new.number, place.settings.health_timeout)
        return why + await self._last_words(agent) if why else ""

    async def _put_back(self, row: Row) -> None:
        """Run what was deployed before, without building."""
        place, agent = self._place, row.agent
        before = await place.read(lambda db: index.last_deployed(db, agent))
        if before is None or before.closure is None:
            return
        old: InForce = await place.with_repository(agent, lambda repository: in_force(repository, before))
        await place.agents.deploy(agent, old)
        milestones.reached("put back")

    async def succeed(self, row: Row) -> None:
        """Plant `deployed/N`, move main, withdraw what was proposed on top of the old one. Under the agent's lock."""
        place, agent = self._place, row.agent
        main = await place.with_repository(agent, _main_of)
        data = row.data(State.DEPLOYED, waits_for=None)
        steps = [Step(data, row.sha, SYSTEM)]
        told: list[Notice] = [(name, notices.deployed(data)) for name in self._concerned(row)]
        births = {row.number: row.created_at}
        for other in await place.read(lambda db: index.open_of(db, agent)):
            on_top = row.kind == "destroy" or other.base == row.sha
            if other.number == row.number or other.state not in (State.PROPOSAL, State.BUILT) or on_top:
                continue  # What is being built now sees at its end that main has moved.
            gone = other.data(State.WITHDRAWN, outcome=policy.MAIN_MOVED, waits_for=None)
            steps.append(Step(gone, other.sha, SYSTEM))
            births[other.number] = other.created_at
            told += [(name, notices.withdrawn(gone, SYSTEM.label)) for name in asked(other.proposer, other.waits_for)]
        moved = MoveMain(row.sha, main) if main != row.sha and row.kind != "destroy" else None
        await place.ledger.enter(agent, steps, main=moved, notices=told, created=births)
        await place.tell_changed()
        await self._tidy(agent)

    async def fail(self, row: Row, why: str) -> None:
        """Plant `failed/N`. Under the agent's lock."""
        data = row.data(State.FAILED, outcome=why, waits_for=None)
        told = [(name, notices.failed(data)) for name in self._concerned(row)]
        births = {row.number: row.created_at}
        await self._place.ledger.enter(row.agent, [Step(data, row.sha, SYSTEM)], notices=told, created=births)
        await self._place.tell_changed()

    async def _tidy(self, agent: str) -> None:
        """Let go of closures that no rollback within `kept_deployments` needs, and of git's clutter."""
        place = self._place
        rows = await place.read(
            lambda db: [*index.deployments(db, agent, place.settings.kept_deployments), *index.open_of(db, agent)]
        )
        try:
            await place.runtime.keep(agent, {row.closure for row in rows if row.closure is not None})
            await place.with_repository(agent, Repository.tidy)
        except (HiveError, OSError) as error:
            log.warning("not tidied up", agent=agent, error=str(error))

    async def _last_words(self, agent: str) -> str:
        try:
            lines, _ = await self._place.runtime.read_log(
                agent, self._place.layout.agent_log(agent), _LOG_LINES, None, 0
            )
        except HiveError:
            return ""
        tail = last_lines("\n".join(lines), _LOG_BYTES)
        return f"\n\nThe last lines of its log:\n{tail}" if tail else ""

    def _concerned(self, row: Row) -> Sequence[str]:
        """Who proposed it, the manager if it agreed, and an agent that goes on: not one that is new or gone, nor an
        operator who did it at once and sees what comes of it.
        """
        names = [name_in(row.proposer), *(name for name in map(name_in, row.approvals) if name == MANAGER)]
        if row.kind in ("config", "rollback"):
            names.append(row.agent)
        at_once = row.kind != "config" and name_in(row.proposer) == OPERATOR
        known = {*self._place.directory.names(), OPERATOR} - ({OPERATOR} if at_once else set())
        return [name for name in dict.fromkeys(names) if name in known]


def _main_of(repository: Repository) -> str | None:
    return repository.main()
