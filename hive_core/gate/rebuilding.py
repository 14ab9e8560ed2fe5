"""The same configuration built anew: for agents that were built with an older hyperhive."""

from __future__ import annotations

from hive_core.errors import conflict
from hive_core.gate import policy
from hive_core.gate.beginning import begin
from hive_core.gate.context import Workplace
from hive_core.gate.parties import Party
from hive_core.gate.pipeline.build import Building
from hive_core.gate.records import index
from hive_core.gate.records.transitions import Step
from hive_core.protocol import Proposal, RebuildRequest


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
