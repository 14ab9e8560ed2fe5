"""What time brings: undecided proposals are withdrawn, and the index is made anew when asked."""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from hive_core.errors import HiveError
from hive_core.gate import policy, story
from hive_core.gate.context import Workplace
from hive_core.gate.parties import SYSTEM
from hive_core.gate.pipeline.decide import Deciding
from hive_core.gate.records import index
from hive_core.gate.records.states import IllegalHistory, State
from hive_core.gate.records.transitions import seconds
from hive_core.protocol import ReindexAnswer

_LONGEST_PAUSE = 600.0

log = structlog.get_logger(__name__)


class Upkeep:
    """Works beside the decisions."""

    def __init__(self, place: Workplace, deciding: Deciding) -> None:
        self._place = place
        self._deciding = deciding

    async def expire(self) -> None:
        """Withdraw proposals on which nobody has decided in time, until cancelled."""
        pause = min(_LONGEST_PAUSE, self._place.settings.proposal_days * 86_400 / 4)
        while True:
            await asyncio.sleep(pause)
            for row in await self._place.read(lambda db: index.expired(db, seconds() * 1_000)):
                try:
                    await self._expire(row)
                except (HiveError, OSError) as error:
                    log.error("proposal not expired", agent=row.agent, number=row.number, error=str(error))

    async def reindex(self) -> ReindexAnswer:
        """Make the index anew from the tags of every agent. Raises `repository_damaged` when all others are done."""
        place = self._place
        found = story.agents(place.layout.applied)
        count = changed = 0
        damaged = []
        for agent in sorted(found):
            try:
                async with place.locks[agent]:
                    rows = await place.with_repository(agent, story.rows_of)
                    old = {row.number: row for row in await place.read(partial(index.of_agent, agent=agent))}
                    new = {row.number: row for row in rows}
                    changed += sum(old.get(number) != new.get(number) for number in old.keys() | new.keys())
                    count += len(rows)
                    await place.database.write(partial(index.replace, agent=agent, rows=rows))
            except (IllegalHistory, ValueError) as error:
                damaged.append(f"{agent}: {error}")
            except HiveError as error:
                if error.code != "repository_missing":
                    raise
                found.discard(agent)  # purged since it was listed
        for agent in sorted(await place.read(index.agents) - found):
            gone = await place.read(partial(index.of_agent, agent=agent))
            changed += len(gone)
            await place.database.write(partial(index.forget, agent=agent))
        await place.tell_changed()
        if damaged:
            why = f"tags that are not the gate's, in the applied repository of {'; '.join(damaged)}"
            hint = "see them with git tag, and hive-c0re audit verify; the index of the others was made anew"
            raise HiveError("repository_damaged", why, hint=hint, status=500)
        return ReindexAnswer(agents=len(found), proposals=count, changed=changed)

    async def _expire(self, row: index.Row) -> None:
        place = self._place
        async with place.locks[row.agent]:
            now = await place.row(row.agent, row.number)
            if now.state in (State.PROPOSAL, State.BUILT):
                await self._deciding.take_back(now, policy.EXPIRED, SYSTEM)
