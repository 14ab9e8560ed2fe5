"""New agents and the end of agents: by the operator at once, by the manager as proposals."""

from __future__ import annotations

from dataclasses import replace

from hive_core.errors import HiveError, conflict, not_found
from hive_core.gate import policy
from hive_core.gate.beginning import begin, check_only_one
from hive_core.gate.context import Workplace
from hive_core.gate.ending import Ending
from hive_core.gate.parties import SYSTEM, Party
from hive_core.gate.pipeline.build import Building
from hive_core.gate.pipeline.deploy import Deploying, why_failed
from hive_core.gate.pipeline.provisioning import Founding
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import Step
from hive_core.infra.git.repository import Repository
from hive_core.protocol import (
    AgentStatus,
    DestroyAnswer,
    DestroyProposal,
    DestroyRequest,
    Proposal,
    SpawnProposal,
    SpawnRequest,
)
from hive_core.runtimes.base import BuildFailed


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
