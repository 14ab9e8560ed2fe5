"""A proposal's beginning: taking its commit in, and planting `proposal/N`."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict

from hive_core.errors import HiveError, bad_request, conflict
from hive_core.gate import policy
from hive_core.gate.beginning import begin
from hive_core.gate.context import Workplace
from hive_core.gate.intake.import_commit import Intake
from hive_core.gate.parties import Party
from hive_core.gate.pipeline.build import Building
from hive_core.gate.records import index
from hive_core.gate.records.transitions import Step, seconds
from hive_core.infra.git.repository import Repository
from hive_core.protocol import Proposal, ProposeRequest

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
