"""What a destroy does beside its own tags: every open proposal of the agent ends, and then the agent."""

from __future__ import annotations

from hive_core.gate import milestones
from hive_core.gate.context import Workplace
from hive_core.gate.parties import SYSTEM
from hive_core.gate.records import index
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import Step
from hive_core.protocol import DestroyAnswer

_WHY = "the agent was destroyed"


class Ending:
    """Ends agents. Under the agent's lock."""

    def __init__(self, place: Workplace) -> None:
        self._place = place

    async def end(self, agent: str, *, purge: bool, actor: str, besides: int | None = None) -> DestroyAnswer | None:
        """Destroy the agent; what is open of it ends, but for the proposal `besides`, which asked for this.

        With `purge` its applied repository goes too, and the index forgets it. None if the agent is gone already.
        """
        place = self._place
        for row in await place.read(lambda db: index.open_of(db, agent)):
            if row.number != besides:
                await place.give_up(agent, row.number)
        steps, told, births = [], [], {}
        for row in await place.read(lambda db: index.open_of(db, agent)):
            if row.number != besides:
                state = State.WITHDRAWN if row.state in (State.PROPOSAL, State.BUILT) else State.FAILED
                steps.append(Step(row.data(state, outcome=_WHY, waits_for=None), row.sha, SYSTEM))
                told += place.told(steps[-1], was_asked=row.waits_for)
                births[row.number] = row.created_at
        if steps:
            await place.ledger.enter(agent, steps, notices=told, created=births)
        milestones.reached("proposals ended")
        answer = None
        try:
            if place.agents.exists(agent):
                answer = await place.agents.destroy(agent, actor, purge=purge)
            milestones.reached("agent destroyed")
        finally:
            # Also if some of its files could not be removed: it is gone.
            if purge and not place.agents.exists(agent):
                await place.database.write(lambda db: index.forget(db, agent))
            await place.tell_changed()
        return answer
