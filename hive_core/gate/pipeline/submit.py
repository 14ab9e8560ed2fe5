"""Submission of proposals: configuration, spawn, destroy, rebuild."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import replace

from hive_core.errors import HiveError, bad_request, conflict, not_found
from hive_core.gate import policy
from hive_core.gate.context import Workplace, begin, check_only_one
from hive_core.gate.intake.import_commit import Intake
from hive_core.gate.pipeline.build import Building
from hive_core.gate.pipeline.deploy import Deploying, why_failed
from hive_core.gate.pipeline.provisioning import Ending, Founding
from hive_core.gate.policy import SYSTEM, Party
from hive_core.gate.records import index
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import Step, seconds
from hive_core.infra.git.repository import Repository
from hive_core.protocol import (
    AgentStatus,
    DestroyAnswer,
    DestroyProposal,
    DestroyRequest,
    Proposal,
    ProposeRequest,
    RebuildRequest,
    SpawnProposal,
    SpawnRequest,
)
from hive_core.runtimes.base import BuildFailed

_MOST_OPEN = 20
"""Proposals of one agent that may be open at a time."""
_MOST_AN_HOUR = 60
"""Proposals that an agent may make in an hour."""
_MOST_WAITING = 8
_INTAKES_AT_ONCE = 2


class Proposing:
    """Takes proposals of configurations."""

    def __init__(self, place: Workplace, intake: Intake, building: Building) -> None:
        self._place = place
        self._intake = intake
        self._building = building
        self._one_each: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._few = asyncio.Semaphore(_INTAKES_AT_ONCE)
        self._waiting: Counter[str] = Counter()

    async def propose(self, request: ProposeRequest, party: Party) -> Proposal:
        """Take a commit in; the build goes on in the background.

        Raises what intake raises, `nothing_changed`, `already_proposed`, `too_many_proposals`, `not_rebased`.
        """
        place = self._place
        agent = request.agent or party.name
        if request.agent is None and party.role == "operator":
            raise bad_request("the operator has no configuration to propose: say of which agent", "name the agent")
        policy.may_propose(party, agent)
        place.agents.record(agent)
        await place.runtime.check_can_build()
        if self._waiting[agent] >= _MOST_WAITING:
            why = f"{_MOST_WAITING} commits of {agent} are being taken in"
            raise HiveError("intake_under_way", why, hint="try again when that is done", status=429)
        self._waiting[agent] += 1
        try:
            base = await self._checked_in(agent, request, party)
        finally:
            self._waiting[agent] -= 1
        async with place.locks[agent]:
            place.agents.record(agent)
            await self._check_few(agent, request.commit, party)
            if await place.with_repository(agent, Repository.main) != base:
                raise policy.main_moved(agent, base)
            data = await begin(place, "config", agent, party, request.note, base, expires=True)
            await place.ledger.enter(agent, [Step(data, request.commit, party)])
            row = await place.row(agent, data.number)
        self._building.begin(agent, row.number)
        return row.shown()

    async def _checked_in(self, agent: str, request: ProposeRequest, party: Party) -> str | None:
        """Take the commit into the applied repository; what is deployed, on top of which it was checked to be."""
        place = self._place
        # Without the agent's lock: a repository that is slow to read must not hold up decisions.
        async with self._one_each[agent], self._few:
            await self._check_few(agent, request.commit, party)
            try:
                base = await place.with_repository(agent, Repository.main)
                if request.commit == base:
                    raise conflict(
                        "nothing_changed", f"{agent} runs on {request.commit} already", "commit a change first"
                    )
                await self._take_in(agent, request.commit, base, party)
            except HiveError:
                place.agents.record(agent)  # If it was destroyed meanwhile, that is the reason to tell.
                raise
        return base

    async def _check_few(self, agent: str, commit: str, party: Party) -> None:
        """Refuse what is proposed already, and more than anybody can look at: what is taken in stays on the disk."""
        opened = await self._place.read(lambda db: index.open_of(db, agent))
        for row in opened:
            if row.sha == commit and row.kind == "config":
                raise conflict(
                    "already_proposed",
                    f"{agent}/{row.number} proposes the same commit and is {row.state}",
                    "wait for its decision, or withdraw it",
                )
        if len(opened) >= _MOST_OPEN:
            why, hint = f"{len(opened)} proposals of {agent} are open already", "withdraw those that are not needed"
            raise HiveError("too_many_proposals", why, hint=hint, status=429)
        if party.role == "agent":
            since = (seconds() - 3_600) * 1_000
            count = await self._place.read(lambda db: index.count_since(db, agent, since))
            if count >= _MOST_AN_HOUR:
                why = f"{agent} has made {count} proposals within an hour"
                raise HiveError("too_many_proposals", why, hint="wait; propose what is finished", status=429)

    async def _take_in(self, agent: str, commit: str, base: str | None, party: Party) -> None:
        """Take the commit from the agent's repository; the manager's about another agent may lie in its own instead,
        since it must not run git in a repository of which the settings are another's.
        """
        place = self._place
        repository = place.layout.applied_repository(agent)
        if party.role == "manager" and party.name != agent:
            try:
                await self._intake.take(place.config_of(party.name), repository, commit, base)
                return
            except HiveError as error:
                if error.code not in ("no_such_commit", "no_repository"):
                    raise
        await self._intake.take(place.config_of(agent), repository, commit, base)


class Rebuilding:
    """Proposes what is deployed once more. Nobody decides on that: its commit was approved."""

    def __init__(self, place: Workplace, building: Building) -> None:
        self._place = place
        self._building = building

    async def rebuild(self, agent: str, request: RebuildRequest, party: Party) -> Proposal:
        """Build what is deployed anew and deploy that, in the background; if that is under way already, it is told.

        Raises `not_yours`, `not_decider`, `nothing_deployed`, `deployment_under_way`.
        """
        place = self._place
        policy.may_rebuild(party, agent, "config")  # Whether there is such an agent is not for everybody to know.
        place.agents.record(agent)
        await place.runtime.check_can_build()
        async with place.locks[agent]:
            place.agents.record(agent)
            last = await place.read(lambda db: index.last_rebuild(db, agent))
            if last is not None and last.open:
                return last.shown()
            await place.check_idle(agent)
            now = await place.read(lambda db: index.last_deployed(db, agent))
            if now is None:
                raise conflict("nothing_deployed", f"{agent} has no deployment", "propose its configuration")
            policy.may_rebuild(party, agent, now.kind)
            data = await begin(place, "rebuild", agent, party, request.note, now.sha)
            await place.ledger.enter(agent, [Step(data, now.sha, party)])
            row = await place.row(agent, data.number)
        self._building.begin(agent, row.number)
        return row.shown()


class Spawning:
    """Spawns and destroys."""

    def __init__(
        self, place: Workplace, founding: Founding, ending: Ending, building: Building, deploying: Deploying
    ) -> None:
        self._place = place
        self._founding = founding
        self._ending = ending
        self._building = building
        self._deploying = deploying

    async def spawn(self, request: SpawnRequest, party: Party) -> AgentStatus:
        """Make an agent, as the operator: nobody else is asked, and every step is written down like any other's.

        Raises `bad_name`, `agent_exists`, `agent_being_purged`, `config_in_the_way`, `disk_full`, `build_failed`,
        `above_ceiling`.
        """
        place, agent = self._place, request.name
        await place.agents.check_new(agent)
        await place.runtime.check_can_build()
        async with place.locks[agent]:
            await place.agents.check_new(agent)
            commit, base = await self._founding.first_commit(request, party)
            first = await begin(place, "spawn", agent, party, "spawned by the operator", base)
            data = replace(first, start=request.start)
            building = replace(data, state=State.BUILDING)
            await place.ledger.enter(agent, [Step(data, commit, party), Step(building, commit, SYSTEM)])
            row = await place.row(agent, data.number)
            try:
                built = await self._building.build(row)
            except Exception as error:
                why = why_failed(error, "build", row)
                await self._deploying.fail(row, why)
                if not isinstance(error, BuildFailed):
                    raise
                raise HiveError("build_failed", why, hint="mend the configuration", status=400) from None
            done = replace(built.data(row), start=request.start)
            approved = replace(done, state=State.APPROVED, approvals=[party.label])
            steps = [Step(done, commit, SYSTEM), Step(approved, commit, party)]
            await place.ledger.enter(agent, steps, created={row.number: row.created_at})
            row = await place.row(agent, row.number)
            try:
                await self._founding.create(row, start=request.start, actor=party.actor)
            except Exception as error:
                await self._deploying.fail(row, why_failed(error, "deployment", row))
                raise
            await self._deploying.succeed(row)
        return place.agents.status(agent)

    async def destroy(self, agent: str, request: DestroyRequest, party: Party) -> DestroyAnswer:
        """Remove an agent, as the operator. Raises what the agents' own destroy raises."""
        place = self._place
        place.agents.record(agent)
        async with place.locks[agent]:
            place.agents.record(agent)
            answer = await self._ending.end(agent, purge=request.purge, actor=party.actor)
        if answer is None:
            raise not_found("unknown_agent", f"there is no agent {agent} any more")
        return answer

    async def request_spawn(self, request: SpawnProposal, party: Party) -> Proposal:
        """Propose a new agent. Raises like `spawn`, and `already_proposed`."""
        place, agent = self._place, request.name
        policy.may_request(party)
        await place.agents.check_new(agent)
        await place.runtime.check_can_build()
        async with place.locks[agent]:
            await place.agents.check_new(agent)
            await check_only_one(place, agent, "spawn")
            commit, base = await self._founding.first_commit(request, party)
            first = await begin(place, "spawn", agent, party, request.note, base, expires=True)
            await place.ledger.enter(agent, [Step(replace(first, start=request.start), commit, party)])
            row = await place.row(agent, first.number)
        self._building.begin(agent, row.number)
        return row.shown()

    async def request_destroy(self, agent: str, request: DestroyProposal, party: Party) -> Proposal:
        """Propose the end of an agent. There is nothing to build: it waits for its decision at once."""
        place = self._place
        policy.may_request(party)
        place.agents.record(agent)
        async with place.locks[agent]:
            place.agents.record(agent)
            await check_only_one(place, agent, "destroy")
            main = await place.with_repository(agent, Repository.main)
            if main is None:
                raise conflict("nothing_deployed", f"{agent} has no deployment", "ask the operator to destroy it")
            question = place.question("destroy", party.label, agent)
            decider = policy.next_decider(place.settings.approval, question, [])
            first = await begin(place, "destroy", agent, party, request.note, main, expires=True)
            data = replace(first, purge=request.purge)
            built = replace(data, state=State.BUILT, waits_for=decider)
            steps = [
                Step(data, main, party),
                Step(replace(data, state=State.BUILDING), main, SYSTEM),
                Step(built, main, SYSTEM),
            ]
            told = place.told(steps[-1])
            if decider is None:  # The operator's own is the last word.
                approved = replace(built, state=State.APPROVED, approvals=[party.label])
                steps.append(Step(approved, main, party))
            await place.ledger.enter(agent, steps, notices=told)
            row = await place.row(agent, data.number)
        await place.tell_changed()
        if decider is None:
            self._deploying.follow(agent, row.number)
        return row.shown()
