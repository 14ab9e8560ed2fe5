"""Endpoints to submit, list and decide work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.params import place_of, principal_of
from hive_core.api.rules import EndpointRule
from hive_core.errors import bad_request
from hive_core.gate.policy import Principal
from hive_core.protocol import (
    Answer,
    ApproveWork,
    CommentOnWork,
    DenyWork,
    FileDiff,
    FileDiffQuery,
    LogsAnswer,
    LogsQuery,
    ProposalQuery,
    Request,
    RetryWork,
    SubmitWork,
    WithdrawWork,
    WorkComment,
    WorkDetail,
    WorkList,
    WorkProposal,
    WorksQuery,
)
from hive_core.protocol.names import is_repository_name, why_no_repository_name
from hive_core.work.gate.gate import WorkGate

R = TypeVar("R", bound=Request)
A = TypeVar("A", bound=Answer)

_ALL = "/v1/work"
_ONE = f"{_ALL}/{{repo}}/{{number}}"


def submissions(gate: WorkGate) -> list[Endpoint]:
    """Return the endpoint to submit work, for agents and the manager."""

    async def submit(call: ApiCall) -> WorkProposal:
        return await gate.submissions.submit(call.read(SubmitWork), principal_of(call.caller))

    summary = "Submit a commit of the caller's clone of a repository"
    return [Endpoint("POST", _ALL, summary, submit, WorkProposal, body=SubmitWork)]


def work_views(gate: WorkGate) -> list[Endpoint]:
    """Return the endpoints to list, show, comment and decide; the gate checks what a caller may see and do."""

    async def listing(call: ApiCall) -> WorkList:
        return await gate.queries.works(call.read(WorksQuery), principal_of(call.caller))

    async def changed(call: ApiCall) -> None:
        query, principal = call.read(ProposalQuery), principal_of(call.caller)
        await gate.queries.wait_for_change(*work_of(call), query, principal)

    async def show(call: ApiCall) -> WorkDetail:
        return await gate.queries.show(*work_of(call), principal_of(call.caller))

    async def log(call: ApiCall) -> LogsAnswer:
        return await gate.queries.log(*work_of(call), call.read(LogsQuery), principal_of(call.caller))

    decisions, retry = gate.decisions, gate.submissions.retry
    return [
        Endpoint(
            "GET",
            _ALL,
            "Work, the newest first",
            listing,
            WorkList,
            query=WorksQuery,
            load="heavy",
            rule=EndpointRule("viewer", "listing"),
        ),
        Endpoint(
            "GET",
            _ONE,
            "One proposal of work; can wait for another state",
            show,
            WorkDetail,
            query=ProposalQuery,
            waits=True,
            until=changed,
            load="heavy",
            rule=EndpointRule("viewer", "work"),
        ),
        Endpoint(
            "GET",
            f"{_ONE}/log",
            "The log of its checks",
            log,
            LogsAnswer,
            query=LogsQuery,
            waits=True,
            load="follows",
            rule=EndpointRule("viewer", "work"),
        ),
        _act("approve", "Approve work that is checked", decisions.approve, ApproveWork, WorkProposal),
        _act("deny", "Deny work that is checked", decisions.deny, DenyWork, WorkProposal),
        _act("withdraw", "Withdraw work of one's own", decisions.withdraw, WithdrawWork, WorkProposal),
        _act("retry", "Submit failed or withdrawn work again", retry, RetryWork, WorkProposal),
        _act("comments", "Comment on work, or on a line of it", decisions.comment, CommentOnWork, WorkComment),
    ]


def work_files(gate: WorkGate) -> list[Endpoint]:
    """Return the operator's endpoint to read the diff of work file by file."""

    async def show(call: ApiCall) -> FileDiff:
        file, query = place_of(call), call.read(FileDiffQuery)
        return await gate.queries.file_diff(*work_of(call), file, query, principal_of(call.caller))

    path, summary = f"{_ONE}/files/{{file}}", "The diff of one of its files"
    return [
        Endpoint(
            "GET", path, summary, show, FileDiff, query=FileDiffQuery, load="heavy", rule=EndpointRule("viewer", "work")
        )
    ]


def _act(
    verb: str,
    summary: str,
    run: Callable[[str, int, R, Principal], Awaitable[A]],
    body: type[R],
    answer: type[A],
) -> Endpoint:
    async def handle(call: ApiCall) -> A:
        return await run(*work_of(call), call.read(body), principal_of(call.caller))

    return Endpoint("POST", f"{_ONE}/{verb}", summary, handle, answer, body=body, rule=EndpointRule("operator", "work"))


def work_of(call: ApiCall) -> tuple[str, int]:
    """Return the repository and the number in the path. Raises `bad_repository_name`, `invalid_request`."""
    repo, number = call.path["repo"], call.path["number"]
    if not is_repository_name(repo):
        raise bad_request(why_no_repository_name(repo), "hive-c0re repo list shows the names")
    if not (number.isascii() and number.isdigit() and len(number) < 20 and int(number) < 2**63):
        raise bad_request("the number of the work in the path is no number", "work is named as in web/3")
    return repo, int(number)
