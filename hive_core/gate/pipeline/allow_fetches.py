"""The operator's permission for the fetches of a failed build, and the new proposal that is built with it."""

from __future__ import annotations

from dataclasses import replace

from hive_core.errors import conflict
from hive_core.gate import policy
from hive_core.gate.context import GateContext, as_request, new_proposal
from hive_core.gate.pipeline.build import BuildStep
from hive_core.gate.policy import Principal
from hive_core.gate.records import index, tag_message
from hive_core.gate.records.fetches import FetchPermission
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State, tag_name
from hive_core.gate.records.tag_message import ProposalTag
from hive_core.gate.records.transitions import Transition
from hive_core.infra.git.repository import Repository
from hive_core.protocol import AllowFetchesRequest, Proposal


class FetchPermissions:
    """Takes the operator's permissions for fetches."""

    def __init__(self, context: GateContext, build_step: BuildStep) -> None:
        self._context = context
        self._build_step = build_step

    @as_request
    async def allow(self, agent: str, number: int, request: AllowFetchesRequest, principal: Principal) -> Proposal:
        """Allow the fetches that a failed proposal names, and propose its commit again; it is built in the background.

        The new proposal has the proposer and the note of the failed one, and passes the gate like any other.

        Raises `not_decider`, `unknown_proposal`, `no_missing_fetches`, `other_commit`, `unknown_agent`,
        `agent_exists`, `already_proposed`, `not_rebased`, and what keeps the runtime from building.
        """
        context = self._context
        policy.check_may_allow_fetches(principal, f"{agent}/{number}")
        await context.runtime.check_can_build()
        async with context.locks[agent]:
            row = await context.row(agent, number)
            permission = await self._permission(row, principal)
            if request.commit != row.commit:
                why = f"{agent}/{number} is about commit {row.commit}, not {request.commit}, as this permission expects"
                hint = f"look at it again before you decide: hive-c0re proposals allow-fetches {agent} {number}"
                raise conflict("other_commit", why, hint)
            await self._check_can_follow(row)
            first = await new_proposal(
                context, row.kind, agent, principal, row.note, row.base, expires=row.expires_at is not None
            )
            permission = replace(permission, number=first.number)
            data = replace(first, by=row.by, start=row.start, allowed_fetches=permission)
            (made,) = await context.transition_log.record(agent, [Transition(data, row.commit, principal)])
        self._build_step.begin(agent, made.number)
        return made.to_protocol()

    async def _permission(self, row: ProposalRow, principal: Principal) -> FetchPermission:
        """Return the permission for the fetches that the proposal failed for. Raises `no_missing_fetches`.

        What was allowed for the failed build stays allowed: it may be missing again when the next one begins.
        """
        tag = await self._context.in_repository(row.agent, lambda repository: _failed_tag(repository, row))
        if tag is None or not tag.missing_fetches:
            name = f"{row.agent}/{row.number}"
            state = f"is {row.state}" if tag is None else "failed for another reason"
            hint = f"hive-c0re proposals show {name} tells what became of it"
            raise conflict("no_missing_fetches", f"{name} {state}, not for fetches that can be allowed", hint)
        if tag.pruned is not None:
            why = f"the files of {row.agent}/{row.number} were removed"
            raise conflict("no_missing_fetches", why, "propose the commit again, so that it is built again")
        before = row.allowed_fetches.fetches if row.allowed_fetches is not None else ()
        fetches = {fetch.derivation: fetch for fetch in (*before, *tag.missing_fetches)}
        return FetchPermission(principal.label, row.number, row.number, tuple(fetches.values()))

    async def _check_can_follow(self, row: ProposalRow) -> None:
        """Check that the commit can be proposed again. Raises as `allow`."""
        context, agent = self._context, row.agent
        if row.kind == "spawn":
            await context.deployments.check_new(agent)
        else:
            context.agents.record(agent)
        for other in await context.database.read(lambda db: index.open_of(db, agent)):
            if other.kind == row.kind and (row.kind != "config" or other.commit == row.commit):
                raise conflict(
                    "already_proposed",
                    f"{agent}/{other.number} proposes the same and is {other.state}",
                    "wait for its decision, or withdraw it",
                )
        moved = await context.in_repository(agent, Repository.main) != row.base
        newest = await context.database.read(lambda db: index.last_deployed(db, agent))
        if row.kind == "rebuild" and newest is not None and (moved or newest.number > row.number):
            why = f"{agent}/{newest.number} was deployed after {agent}/{row.number} had been proposed"
            raise conflict("not_rebased", why, f"rebuild what is deployed now: hive-c0re rebuild {agent}")
        if moved:
            raise policy.main_moved(agent, row.base)


def _failed_tag(repository: Repository, row: ProposalRow) -> ProposalTag | None:
    tags = repository.read_tags([tag_name(State.FAILED, row.number)])
    return tag_message.parse_message(tags[0].message) if tags else None
