"""Decisions: approve, deny, withdraw, roll back. Each is about one state of one proposal and is taken once."""

from __future__ import annotations

from dataclasses import replace

from hive_core.errors import HiveError, conflict, not_found
from hive_core.gate import policy
from hive_core.gate.context import Workplace, begin, unknown_proposal
from hive_core.gate.pipeline.deploy import Deploying
from hive_core.gate.policy import May, Party, Question
from hive_core.gate.records import index
from hive_core.gate.records.index import Row
from hive_core.gate.records.states import ENDORSED, State
from hive_core.gate.records.transitions import Step
from hive_core.protocol import (
    ApproveRequest,
    DenyRequest,
    Proposal,
    RollbackRequest,
    WithdrawRequest,
)


class Deciding:
    """What parties decide about proposals that there are."""

    def __init__(self, place: Workplace, deploying: Deploying) -> None:
        self._place = place
        self._deploying = deploying

    async def approve(self, agent: str, number: int, request: ApproveRequest, party: Party) -> Proposal:
        """Agree to a built proposal; deployed in the background when it was the last approval that was missing.

        Raises `own_proposal`, `not_decider`, `other_commit`, `stale_state`, `deployment_under_way`.
        """
        place = self._place
        async with place.locks[agent]:
            row = await place.row(agent, number)
            question = self._check(row, request, party, policy.may_approve)
            await place.check_idle(agent)
            approvals = [*row.approvals, party.label]
            missing = policy.next_decider(place.settings.approval, question, policy.given(approvals))
            if missing is None:
                data = row.data(State.APPROVED, approvals=approvals, waits_for=None, outcome=request.note)
                await self._take(row, Step(data, row.sha, party))
                self._deploying.follow(agent, number)
            else:
                data = row.data(State.BUILT, approvals=approvals, waits_for=missing, outcome=request.note)
                await self._take(row, Step(data, row.sha, party, fact=ENDORSED))
            return (await place.row(agent, number)).shown()

    async def deny(self, agent: str, number: int, request: DenyRequest, party: Party) -> Proposal:
        """Refuse a built proposal. Raises `own_proposal`, `not_decider`, `other_commit`, `stale_state`."""
        place = self._place
        async with place.locks[agent]:
            row = await place.row(agent, number)
            self._check(row, request, party, policy.may_deny)
            data = row.data(State.DENIED, outcome=request.note, waits_for=None)
            await self._take(row, Step(data, row.sha, party))
            return (await place.row(agent, number)).shown()

    async def withdraw(self, agent: str, number: int, request: WithdrawRequest, party: Party) -> Proposal:
        """Take a proposal back. Raises `not_yours`, `stale_state`."""
        if not policy.may_see(party, agent):
            raise unknown_proposal(agent, number)
        async with self._place.locks[agent]:
            row = await self._place.row(agent, number)
            policy.may_withdraw(party, row.proposer, f"{agent}/{number}")
            await self.take_back(row, request.note or "withdrawn", party)
            return (await self._place.row(agent, number)).shown()

    async def take_back(self, row: Row, why: str, party: Party) -> None:
        """Plant `withdrawn/N`. Under the agent's lock; raises `stale_state` if it is too late."""
        if row.state not in (State.PROPOSAL, State.BUILT):
            raise _stale(row, "withdrawn while it is so", "wait until it is built" if row.open else "it is ended")
        data = row.data(State.WITHDRAWN, outcome=why, waits_for=None)
        await self._take(row, Step(data, row.sha, party))

    async def rollback(self, agent: str, request: RollbackRequest, party: Party) -> Proposal:
        """Deploy an older deployment again, under a number of its own, without building.

        Raises `unknown_deployment`, `nothing_changed`, `closure_gone`, `deployment_under_way`, `not_decider`.
        """
        place = self._place
        policy.may_rollback(place.settings.approval, party, agent)
        place.agents.record(agent)
        async with place.locks[agent]:
            place.agents.record(agent)
            now = await place.read(lambda db: index.last_deployed(db, agent))
            older = await self._older(agent, request.number, now)
            # The same commit may have been built anew: then there is something to go back to.
            if now is not None and (older.sha, older.closure) == (now.sha, now.closure):
                hint = "restart it, or name another deployment"
                raise conflict("nothing_changed", f"{agent} runs on {older.sha} of deployment {older.number}", hint)
            if older.closure is None or not await place.runtime.has(older.closure):
                hint = f"the newest {place.settings.kept_deployments} deployments are kept (kept_deployments)"
                raise conflict("closure_gone", f"what {agent}/{older.number} was built to is gone", hint)
            await place.check_idle(agent)
            first = await begin(place, "rollback", agent, party, request.note, now.sha if now is not None else None)
            data = replace(first, closure=older.closure)
            # The older deployment was approved; this one puts the same closure back.
            approvals = policy.as_before(older.number, older.approvals)
            approved = replace(data, state=State.APPROVED, approvals=approvals, outcome=approvals[-1])
            steps = [Step(data, older.sha, party), Step(approved, older.sha, party)]
            await place.ledger.enter(agent, steps)
            await place.tell_changed()
            row = await place.row(agent, data.number)
        self._deploying.follow(agent, row.number)
        return row.shown()

    def _check(self, row: Row, request: ApproveRequest | DenyRequest, party: Party, may: May) -> Question:
        """Refuse a decision that is not the party's to take, or about something else than there is now."""
        question = self._place.question(row.kind, row.proposer, row.agent)
        # A decision that comes too late hears of the state that it is in, not that it waits for nobody.
        given = policy.given(row.approvals) if row.state is State.BUILT else []
        may(self._place.settings.approval, question, given, party, f"{row.agent}/{row.number}")
        if request.commit not in (None, row.sha):
            why = f"{row.agent}/{row.number} is about commit {row.sha}, not {request.commit}, as this decision expects"
            raise conflict("other_commit", why, "look at it again before you decide: another one may have its number")
        if row.state.value != request.expect:
            raise _stale(row, f"{request.expect}, as this decision expects", "look at it again before you decide")
        if row.state is not State.BUILT:
            raise _stale(row, "ready for a decision", "only what is built can be decided on")
        return question

    async def _older(self, agent: str, number: int | None, now: Row | None) -> Row:
        place = self._place
        if number is None:
            found = None
            if now is not None:
                below = now.number
                found = await place.read(lambda db: index.last_deployed(db, agent, below))
        else:
            found = await place.read(lambda db: index.find(db, agent, number))
        if found is None or found.state is not State.DEPLOYED or found.kind == "destroy":
            what = "earlier deployment" if number is None else f"deployment {number}"
            raise not_found("unknown_deployment", f"{agent} has no {what}", f"hive-c0re history {agent} shows those")
        return found

    async def _take(self, row: Row, step: Step) -> None:
        births, told = {row.number: row.created_at}, self._place.told(step, was_asked=row.waits_for)
        await self._place.ledger.enter(row.agent, [step], notices=told, created=births)
        await self._place.tell_changed()


def _stale(row: Row, what: str, hint: str) -> HiveError:
    return conflict("stale_state", f"{row.agent}/{row.number} is {row.state}, not {what}", hint)
