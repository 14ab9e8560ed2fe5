"""Decisions on proposals: approve, deny, withdraw; and rollbacks."""

from __future__ import annotations

from dataclasses import replace

from hive_core.errors import conflict, not_found
from hive_core.gate import policy
from hive_core.gate.context import GateContext, as_request, new_proposal, unknown_proposal
from hive_core.gate.pipeline.deploy import DeployStep
from hive_core.gate.policy import DecisionRequest, May, Principal
from hive_core.gate.records import compared, index
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import ENDORSED, State
from hive_core.gate.records.transitions import Transition
from hive_core.gate.subject.decision import check_can_be_withdrawn, check_expected
from hive_core.protocol import (
    ApproveRequest,
    DenyRequest,
    Proposal,
    RollbackRequest,
    WithdrawRequest,
)


class Decisions:
    """Takes decisions on existing proposals."""

    def __init__(self, context: GateContext, deploy_step: DeployStep) -> None:
        self._context = context
        self._deploy_step = deploy_step

    @as_request
    async def approve(self, agent: str, number: int, request: ApproveRequest, principal: Principal) -> Proposal:
        """Approve a built proposal. After the last approval that is needed, it is deployed in the background.

        Raises `own_proposal`, `not_decider`, `other_commit`, `stale_state`, `deployment_under_way`, `not_built`.
        """
        context = self._context
        async with context.locks[agent]:
            row = await context.row(agent, number)
            decision = self._check(row, request, principal, policy.check_may_approve)
            await context.check_no_deployment(agent)
            # Recovery withdraws these, but goes on with the other agents where that fails for one.
            if not await context.in_repository(agent, lambda repository: compared.was_compared(repository, row)):
                raise conflict("not_built", f"{agent}/{number} cannot be approved: {compared.WHY}", compared.WHAT_TO_DO)
            approvals = [*row.approvals, principal.label]
            missing = policy.next_decider(context.settings.approval, decision, policy.approvals_given(approvals))
            if missing is None:
                data = row.tag(State.APPROVED, approvals=approvals, waits_for=None, outcome=request.note)
                change = Transition(data, row.commit, principal)
            else:
                data = row.tag(State.BUILT, approvals=approvals, waits_for=missing, outcome=request.note)
                change = Transition(data, row.commit, principal, marker=ENDORSED)
            (row,) = await context.transition_log.record(agent, [change])
        if missing is None:
            self._deploy_step.start(agent, number)
        return row.to_protocol()

    @as_request
    async def deny(self, agent: str, number: int, request: DenyRequest, principal: Principal) -> Proposal:
        """Deny a built proposal. Raises `own_proposal`, `not_decider`, `other_commit`, `stale_state`."""
        context = self._context
        async with context.locks[agent]:
            row = await context.row(agent, number)
            self._check(row, request, principal, policy.check_may_deny)
            data = row.tag(State.DENIED, outcome=request.note, waits_for=None)
            (row,) = await context.transition_log.record(agent, [Transition(data, row.commit, principal)])
        return row.to_protocol()

    @as_request
    async def withdraw(self, agent: str, number: int, request: WithdrawRequest, principal: Principal) -> Proposal:
        """Withdraw a proposal. Raises `not_yours`, `stale_state`, `unknown_proposal`."""
        if not policy.can_see(principal, agent):
            raise unknown_proposal(agent, number)
        async with self._context.locks[agent]:
            row = await self._context.row(agent, number)
            policy.check_may_withdraw(principal, row.by, f"{agent}/{number}")
            return (await self.take_back(row, request.note or "withdrawn", principal)).to_protocol()

    async def take_back(self, row: ProposalRow, why: str, principal: Principal) -> ProposalRow:
        """Withdraw a proposal in the name of any party. The caller must hold the agent's lock. Raises `stale_state`."""
        check_can_be_withdrawn(row, f"{row.agent}/{row.number}")
        data = row.tag(State.WITHDRAWN, outcome=why, waits_for=None)
        (row,) = await self._context.transition_log.record(row.agent, [Transition(data, row.commit, principal)])
        return row

    @as_request
    async def rollback(self, agent: str, request: RollbackRequest, principal: Principal) -> Proposal:
        """Deploy an older deployment again, as a new proposal that is not built.

        Raises `unknown_deployment`, `nothing_changed`, `closure_gone`, `deployment_under_way`, `not_decider`.
        """
        context = self._context
        policy.check_may_rollback(context.settings.approval, principal, agent)
        context.agents.record(agent)
        async with context.locks[agent]:
            context.agents.record(agent)
            now = await context.database.read(lambda db: index.last_deployed(db, agent))
            older = await self._older(agent, request.number, now)
            # The same commit may have been rebuilt; then the older closure differs.
            same = now is not None and context.layout.is_same_closure(older.closure, now.closure)
            if now is not None and older.commit == now.commit and same:
                hint = "restart it, or name another deployment"
                raise conflict("nothing_changed", f"{agent} runs on {older.commit} of deployment {older.number}", hint)
            if older.closure is None or not await context.runtime.has(older.closure):
                hint = f"the newest {context.settings.kept_deployments} deployments are kept (kept_deployments)"
                raise conflict("closure_gone", f"what {agent}/{older.number} was built to is gone", hint)
            await context.check_no_deployment(agent)
            first = await new_proposal(
                context, "rollback", agent, principal, request.note, now.commit if now is not None else None
            )
            data = replace(first, closure=older.closure, allowed_fetches=older.allowed_fetches)
            # The older deployment was approved, and this one activates the same closure.
            approvals = policy.inherited_approvals(older.number, older.approvals)
            approved = replace(data, state=State.APPROVED, approvals=approvals, outcome=approvals[-1])
            transitions = [Transition(data, older.commit, principal), Transition(approved, older.commit, principal)]
            (row,) = await context.transition_log.record(agent, transitions)
        self._deploy_step.start(agent, row.number)
        return row.to_protocol()

    def _check(
        self, row: ProposalRow, request: ApproveRequest | DenyRequest, principal: Principal, may: May
    ) -> DecisionRequest:
        """Check that the party may decide, and that its decision is about this commit in this state."""
        decision = policy.decision_request(row.kind, row.by, row.agent, has_manager=self._context.has_manager)
        # Without approvals a late decision is refused as `stale_state`, not because nobody is asked any more.
        given = policy.approvals_given(row.approvals) if row.state is State.BUILT else []
        name = f"{row.agent}/{row.number}"
        may(self._context.settings.approval, decision, given, principal, name)
        check_expected(row, name, request.expect, request.commit)
        return decision

    async def _older(self, agent: str, number: int | None, now: ProposalRow | None) -> ProposalRow:
        context = self._context
        if number is None:
            found = None
            if now is not None:
                below = now.number
                found = await context.database.read(lambda db: index.last_deployed(db, agent, below))
        else:
            found = await context.database.read(lambda db: index.find(db, agent, number))
        if found is None or found.state is not State.DEPLOYED or found.kind == "destroy":
            what = "earlier deployment" if number is None else f"deployment {number}"
            raise not_found("unknown_deployment", f"{agent} has no {what}", f"hive-c0re history {agent} shows those")
        return found
