"""Endpoints to submit, list and decide proposals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hive_core.api.endpoint import MOST_VALUES_OF_SPAWN, ApiCall, Endpoint
from hive_core.api.routes.params import agent_name, place_of, principal_of
from hive_core.api.rules import EndpointRule
from hive_core.errors import bad_request
from hive_core.gate.gate import Gate
from hive_core.gate.policy import Principal
from hive_core.protocol import (
    MAX_REQUEST_BYTES,
    AllowFetchesRequest,
    ApproveRequest,
    ConfigurationFiles,
    DenyRequest,
    DeploymentChanges,
    EditRequest,
    FileDiff,
    FileDiffQuery,
    LogsAnswer,
    LogsQuery,
    Proposal,
    ProposalDetail,
    ProposalList,
    ProposalQuery,
    ProposalsQuery,
    ProposeRequest,
    PruneAnswer,
    PruneRequest,
    ReindexAnswer,
    Request,
    WithdrawRequest,
)
from hive_core.work.gate.gate import WorkGate

R = TypeVar("R", bound=Request)

_ALL = "/v1/proposals"
_ONE = f"{_ALL}/{{name}}/{{number}}"
_FILES = "/v1/agents/{name}/configuration"


def submissions(gate: Gate) -> list[Endpoint]:
    """Return the endpoints to propose, list, show and withdraw; the gate checks which proposals a caller may see."""

    async def propose(call: ApiCall) -> Proposal:
        return await gate.config_submissions.propose(call.read(ProposeRequest), principal_of(call.caller))

    async def listing(call: ApiCall) -> ProposalList:
        return await gate.queries.proposals(call.read(ProposalsQuery), principal_of(call.caller))

    async def changed(call: ApiCall) -> None:
        query, principal = call.read(ProposalQuery), principal_of(call.caller)
        await gate.queries.wait_for_change(*proposal_of(call), query, principal)

    async def show(call: ApiCall) -> ProposalDetail:
        return await gate.queries.show(*proposal_of(call), principal_of(call.caller))

    async def log(call: ApiCall) -> LogsAnswer:
        return await gate.queries.build_log(*proposal_of(call), call.read(LogsQuery), principal_of(call.caller))

    return [
        Endpoint(
            "POST",
            _ALL,
            "Propose a commit of an agent's configuration",
            propose,
            Proposal,
            body=ProposeRequest,
            rule=EndpointRule("operator", "proposed_agent"),
        ),
        Endpoint(
            "GET",
            _ALL,
            "Proposals, the newest first",
            listing,
            ProposalList,
            query=ProposalsQuery,
            load="heavy",
            rule=EndpointRule("viewer", "listing"),
        ),
        Endpoint(
            "GET",
            _ONE,
            "One proposal; can wait for another state",
            show,
            ProposalDetail,
            query=ProposalQuery,
            waits=True,
            until=changed,
            load="heavy",
            rule=EndpointRule("viewer", "proposal"),
        ),
        Endpoint(
            "GET",
            f"{_ONE}/log",
            "The log of its build",
            log,
            LogsAnswer,
            query=LogsQuery,
            waits=True,
            load="follows",
            rule=EndpointRule("viewer", "proposal"),
        ),
        _act("withdraw", "Withdraw a proposal", gate.decisions.withdraw, WithdrawRequest, manager_only=False),
    ]


def decisions(gate: Gate, *, manager_only: bool) -> list[Endpoint]:
    """Return the endpoints to approve and deny, for the operator and the manager."""
    return [
        _act("approve", "Approve a proposal", gate.decisions.approve, ApproveRequest, manager_only=manager_only),
        _act("deny", "Deny a proposal", gate.decisions.deny, DenyRequest, manager_only=manager_only),
    ]


def comparisons(gate: Gate) -> list[Endpoint]:
    """Return the operator's endpoints to read a diff file by file, and to compare deployments."""

    async def show(call: ApiCall) -> FileDiff:
        file, query = place_of(call), call.read(FileDiffQuery)
        return await gate.queries.file_diff(*proposal_of(call), file, query, principal_of(call.caller))

    async def changes(call: ApiCall) -> DeploymentChanges:
        return await gate.queries.changes_since(*proposal_of(call))

    return [
        Endpoint(
            "GET",
            f"{_ONE}/files/{{file}}",
            "The diff of one of its files",
            show,
            FileDiff,
            query=FileDiffQuery,
            load="heavy",
            rule=EndpointRule("viewer", "proposal"),
        ),
        Endpoint(
            "GET",
            "/v1/agents/{name}/history/{number}",
            "What changed since a deployment",
            changes,
            DeploymentChanges,
            load="heavy",
            rule=EndpointRule("viewer", "agent"),
        ),
    ]


def fetch_permissions(gate: Gate) -> list[Endpoint]:
    """Return the operator's endpoint to allow the fetches that a build needs."""
    allow = gate.fetch_permissions.allow
    summary = "Allow the fetches that it failed for, and build its commit again as a new proposal"
    return [_act("allow-fetches", summary, allow, AllowFetchesRequest, manager_only=False)]


def edits(gate: Gate) -> list[Endpoint]:
    """Return the operator's endpoints to read what an agent runs on, and to propose other files."""

    async def deployed(call: ApiCall) -> ConfigurationFiles:
        return await gate.queries.deployed_files(agent_name(call))

    async def edit(call: ApiCall) -> Proposal:
        return await gate.config_submissions.edit(agent_name(call), call.read(EditRequest), principal_of(call.caller))

    return [
        Endpoint(
            "GET",
            _FILES,
            "The files that an agent runs on",
            deployed,
            ConfigurationFiles,
            load="heavy",
            rule=EndpointRule("viewer", "agent"),
        ),
        Endpoint(
            "POST",
            _FILES,
            "Propose other files for an agent",
            edit,
            Proposal,
            body=EditRequest,
            most_bytes=MAX_REQUEST_BYTES,
            most_values=MOST_VALUES_OF_SPAWN,
            rule=EndpointRule("operator", "agent"),
        ),
    ]


def pruning(gate: Gate) -> list[Endpoint]:
    """Return the operator's endpoint to remove the files of ended proposals."""

    async def prune(call: ApiCall) -> PruneAnswer:
        return await gate.pruning.prune(call.read(PruneRequest), principal_of(call.caller))

    summary = "Remove the files of ended proposals; what was decided and why stays"
    return [
        Endpoint(
            "POST",
            f"{_ALL}/prune",
            summary,
            prune,
            PruneAnswer,
            body=PruneRequest,
            load="heavy",
            rule=EndpointRule("admin"),
        )
    ]


def index_maintenance(gate: Gate, work_gate: WorkGate) -> list[Endpoint]:
    """Return the operator's endpoint to rebuild the index."""

    async def reindex(_: ApiCall) -> ReindexAnswer:
        work = asyncio.ensure_future(work_gate.maintenance.reindex())
        try:
            done = await gate.maintenance.reindex()
        finally:
            await asyncio.wait([work])  # A damaged repository of the one kind does not keep the other from its index.
        of_work = work.result()
        return ReindexAnswer(
            agents=done.subjects,
            proposals=done.proposals,
            repositories=of_work.subjects,
            work=of_work.proposals,
            changed=done.changed + of_work.changed,
        )

    summary = "Rebuild the index of proposals and of work from the tags"
    return [Endpoint("POST", f"{_ALL}/reindex", summary, reindex, ReindexAnswer, load="heavy")]


def _act(
    verb: str,
    summary: str,
    run: Callable[[str, int, R, Principal], Awaitable[Proposal]],
    body: type[R],
    *,
    manager_only: bool,
) -> Endpoint:
    async def handle(call: ApiCall) -> Proposal:
        return await run(*proposal_of(call), call.read(body), principal_of(call.caller))

    return Endpoint(
        "POST",
        f"{_ONE}/{verb}",
        summary,
        handle,
        Proposal,
        body=body,
        manager_only=manager_only,
        rule=EndpointRule("operator", "proposal"),
    )


def proposal_of(call: ApiCall) -> tuple[str, int]:
    """Return the agent and the number in the path."""
    name, number = agent_name(call), call.path["number"]
    if not (number.isascii() and number.isdigit() and len(number) < 20 and int(number) < 2**63):
        raise bad_request("the proposal's number in the path is no number", "proposals are named as in ada/3")
    return name, int(number)
