"""Decisions on work: approve, deny, withdraw; and remarks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from hive_core.errors import HiveError
from hive_core.gate.policy import Principal, name_from_label
from hive_core.gate.records.states import ENDORSED, State
from hive_core.gate.subject.decision import check_can_be_withdrawn, check_expected
from hive_core.gate.subject.work import as_request
from hive_core.infra.database import audit
from hive_core.protocol import ApproveWork, CommentOnWork, DenyWork, WithdrawWork, WorkComment, WorkProposal
from hive_core.protocol.names import WORK_WORDS
from hive_core.work.gate import policy
from hive_core.work.gate.context import WorkContext
from hive_core.work.gate.notifications import commented
from hive_core.work.gate.pipeline.land import LandStep
from hive_core.work.gate.policy import Review
from hive_core.work.gate.records import comments
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.gate.records.work_tag import WorkChange, quote_work

_MAX_COMMENTS = 200
"""Remarks of one party on one proposal."""
_May = Callable[[Review, Sequence[str], Principal, str], None]


class WorkDecisions:
    """Takes decisions on work."""

    def __init__(self, context: WorkContext, land_step: LandStep) -> None:
        self._context = context
        self._land_step = land_step

    @as_request
    async def approve(self, repo: str, number: int, request: ApproveWork, principal: Principal) -> WorkProposal:
        """Approve checked work. After the last approval that is needed, it lands in the background.

        Raises `unknown_work`, `own_proposal`, `not_decider`, `other_commit`, `stale_state`.
        """
        context = self._context
        async with context.locks[repo]:
            row = await context.visible_row(repo, number, principal)
            self._check(row, request, principal, policy.check_may_approve)
            approvals = [*row.approvals, principal.label]
            missing = policy.next_decider(context.review(row), approvals)
            if missing is None:
                data = row.tag(State.APPROVED, approvals=approvals, waits_for=None, outcome=request.note)
                change = WorkChange(data, row.commit, principal)
            else:
                data = row.tag(State.BUILT, approvals=approvals, waits_for=missing, outcome=request.note)
                change = WorkChange(data, row.commit, principal, marker=ENDORSED)
            (row,) = await context.work_log.record(repo, [change])
        if missing is None:
            self._land_step.start(repo, number)
        return row.to_protocol()

    @as_request
    async def deny(self, repo: str, number: int, request: DenyWork, principal: Principal) -> WorkProposal:
        """Deny checked work. Raises `unknown_work`, `own_proposal`, `not_decider`, `other_commit`, `stale_state`."""
        context = self._context
        async with context.locks[repo]:
            row = await context.visible_row(repo, number, principal)
            self._check(row, request, principal, policy.check_may_deny)
            data = row.tag(State.DENIED, outcome=request.note, waits_for=None)
            (row,) = await context.work_log.record(repo, [WorkChange(data, row.commit, principal)])
        return row.to_protocol()

    @as_request
    async def withdraw(self, repo: str, number: int, request: WithdrawWork, principal: Principal) -> WorkProposal:
        """Withdraw work. Raises `not_yours`, `stale_state`, `unknown_work`."""
        context = self._context
        async with context.locks[repo]:
            row = await context.visible_row(repo, number, principal)
            policy.check_may_withdraw(principal, row.by, row.name)
            return (await self.take_back(row, request.note or "withdrawn", principal)).to_protocol()

    async def take_back(self, row: WorkRow, why: str, principal: Principal) -> WorkRow:
        """Withdraw work in the name of any party. The caller must hold the repository's lock. Raises `stale_state`."""
        check_can_be_withdrawn(row, row.name, WORK_WORDS)
        data = row.tag(State.WITHDRAWN, outcome=why, waits_for=None)
        (row,) = await self._context.work_log.record(row.repo, [WorkChange(data, row.commit, principal)])
        return row

    @as_request
    async def comment(self, repo: str, number: int, request: CommentOnWork, principal: Principal) -> WorkComment:
        """Keep a remark with work, and send it to who submitted it; their own goes to who decides.

        Raises `unknown_work`, `too_many_comments`.
        """
        context = self._context
        row = await context.visible_row(repo, number, principal)
        label = principal.label
        made: list[WorkComment] = []

        def store(db: sqlite3.Connection) -> None:
            if comments.count(db, repo, number, label) >= _MAX_COMMENTS:
                why = f"{label} has commented on {row.name} {_MAX_COMMENTS} times"
                raise HiveError("too_many_comments", why, hint="decide on it, or say the rest in a message", status=429)
            made[:] = [comments.insert(db, repo, number, label, request)]
            detail = {"number": number, "comment": made[0].id, "path": request.path, "line": request.line}
            audit.append(db, actor=principal.actor, action="work_comment", subject=repo, detail=detail)

        await context.database.write(store)
        to = [name_from_label(row.by)]
        if principal.name in to:
            to = [policy.name_of(row.waits_for)] if row.waits_for is not None else []
        work = quote_work(row.tag(row.state))
        told, about = commented(work, made[0], to, context.directory.names()), name_from_label(row.by)
        await context.broker.announce(told, lambda _: None, about)
        return made[0]

    def _check(self, row: WorkRow, request: ApproveWork | DenyWork, principal: Principal, may: _May) -> None:
        """Check that the party may decide, and that its decision is about this commit in this state."""
        # Without approvals a late decision is refused as `stale_state`, not because nobody is asked any more.
        given = row.approvals if row.state is State.BUILT else []
        may(self._context.review(row), given, principal, row.name)
        check_expected(row, row.name, request.expect, request.commit, WORK_WORDS)
