"""The gate's endpoints: what reaches the gate, in whose name, and what does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from hive_core.api.endpoint import Caller, Endpoint
from hive_core.api.openapi import describe
from hive_core.api.routes import proposals as proposal_endpoints
from hive_core.api.routes.agents import management as agent_endpoints
from hive_core.api.routes.params import principal_of
from hive_core.gate.policy import Principal, Role
from hive_core.gate.subject.maintenance import Reindexed
from hive_core.people.ownership.owners import Owners
from hive_core.protocol import (
    AllowFetchesRequest,
    ApproveRequest,
    DenyRequest,
    DestroyProposal,
    DestroyRequest,
    HistoryQuery,
    LogsQuery,
    ProposalQuery,
    ProposalsQuery,
    ProposeRequest,
    PruneRequest,
    RebuildRequest,
    RollbackRequest,
    SpawnProposal,
    SpawnRequest,
    WithdrawRequest,
)
from tests.unit.core.api.call_endpoint import Reply, asking, caller
from tests.unit.core.api.fake_gate import FakeGate

SHA = "c" * 40
OPERATOR = caller("operator", "operator")
MANAGER = caller("manager", "hm1nd")
ADA = caller("agent", "ada")
ONE = "/v1/proposals/ada/3"


class FakeWorkMaintenance:
    """Corrects one row of work."""

    async def reindex(self) -> Reindexed:
        return Reindexed(subjects=1, proposals=3, changed=1)


FAKE_WORK_GATE: Any = SimpleNamespace(maintenance=FakeWorkMaintenance())


def endpoints(gate: FakeGate, *, of_agents: bool) -> list[Endpoint]:
    """The gate's endpoints on `host.sock`, or on agents' sockets."""
    real = cast(Any, gate)
    return [
        *proposal_endpoints.submissions(real),
        *proposal_endpoints.decisions(real, manager_only=of_agents),
        *agent_endpoints.deployments(real, manager_only=of_agents),
        *(
            agent_endpoints.agent_requests(real)
            if of_agents
            else [
                *agent_endpoints.agent_admin(MagicMock(), MagicMock(), real, MagicMock(), Owners()),
                *proposal_endpoints.fetch_permissions(real),
                *proposal_endpoints.index_maintenance(real, FAKE_WORK_GATE),
                *proposal_endpoints.pruning(real),
            ]
        ),
    ]


@pytest.fixture
def gate() -> FakeGate:
    return FakeGate()


Ask = Callable[..., Awaitable[Reply]]


@pytest.fixture
async def ask(gate: FakeGate, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ask]:
    """Ask as a caller on the socket that is its own."""
    directory = tmp_path_factory.mktemp("s")

    async def asked(who: Caller, method: str, path: str, body: object = None) -> Reply:
        async with asking(endpoints(gate, of_agents=who.kind != "operator"), who, directory) as one:
            return await one.ask(method, path, body)

    yield asked


@pytest.mark.parametrize("who", [OPERATOR, MANAGER, ADA], ids=lambda who: who.kind)
def test_a_caller_is_a_party(who: Caller) -> None:
    """A party is who the socket says: its name, what it may do, and how it is named in the audit table."""
    assert principal_of(who) == Principal(who.name, cast(Role, who.kind), f"{who.kind}:{who.name}")


def test_a_person_is_a_party() -> None:
    """A person decides as the operator does, under a name of their own that no agent can have."""
    anna = Caller("anna", "person", lambda: "person:anna")
    assert principal_of(anna) == Principal("person:anna", "operator", "person:anna")


EVERYONES: list[tuple[str, str, object, tuple[Any, ...]]] = [
    ("POST", "/v1/proposals", {"commit": SHA, "note": "why"}, ("propose", ProposeRequest(commit=SHA, note="why"))),
    ("GET", "/v1/proposals?agent=ada&state=all", None, ("proposals", ProposalsQuery(agent="ada", state="all"))),
    (
        "GET", f"{ONE}?unlike=built&wait_seconds=1.5", None,
        ("wait_for_change", "ada", 3, ProposalQuery(unlike="built", wait_seconds=1.5)),
    ),
    ("GET", f"{ONE}/log?lines=5", None, ("build_log", "ada", 3, LogsQuery(lines=5))),
    ("POST", f"{ONE}/withdraw", {"note": "x"}, ("withdraw", "ada", 3, WithdrawRequest(note="x"))),
]  # fmt: skip
DECIDERS: list[tuple[str, str, object, tuple[Any, ...]]] = [
    ("POST", f"{ONE}/approve", {"expect": "built"}, ("approve", "ada", 3, ApproveRequest(expect="built"))),
    (
        "POST", f"{ONE}/deny", {"expect": "built", "note": "x"},
        ("deny", "ada", 3, DenyRequest(expect="built", note="x")),
    ),
    (
        "POST", f"{ONE}/approve", {"expect": "built", "commit": SHA},
        ("approve", "ada", 3, ApproveRequest(expect="built", commit=SHA)),
    ),
    ("POST", "/v1/agents/ada/rollback", {"note": "x"}, ("rollback", "ada", RollbackRequest(note="x"))),
    ("POST", "/v1/agents/ada/rebuild", {"note": "x"}, ("rebuild", "ada", RebuildRequest(note="x"))),
]  # fmt: skip
MANAGERS: list[tuple[str, str, object, tuple[Any, ...]]] = [
    ("POST", "/v1/agents", {"name": "bob", "note": "x"}, ("request_spawn", SpawnProposal(name="bob", note="x"))),
    (
        "POST", "/v1/agents/ada/destroy", {"note": "x", "purge": True},
        ("request_destroy", "ada", DestroyProposal(note="x", purge=True)),
    ),
]  # fmt: skip
OPERATORS: list[tuple[str, str, object, tuple[Any, ...]]] = [
    ("POST", "/v1/agents", {"name": "bob"}, ("spawn", SpawnRequest(name="bob"))),
    ("POST", "/v1/agents/ada/destroy", {"purge": True}, ("destroy", "ada", DestroyRequest(purge=True))),
    ("POST", f"{ONE}/allow-fetches", {"commit": SHA}, ("allow", "ada", 3, AllowFetchesRequest(commit=SHA))),
]
REACHES = [
    *((who, *one) for who in (OPERATOR, MANAGER, ADA) for one in EVERYONES),
    *((who, *one) for who in (OPERATOR, MANAGER) for one in DECIDERS),
    *((MANAGER, *one) for one in MANAGERS),
    *((OPERATOR, *one) for one in OPERATORS),
]


@pytest.mark.parametrize(
    ("who", "method", "path", "body", "call"), REACHES, ids=[f"{who.kind}-{call[0]}" for who, _, _, _, call in REACHES]
)
async def test_what_reaches_the_gate(
    who: Caller, method: str, path: str, body: object, call: tuple[Any, ...], gate: FakeGate, ask: Ask
) -> None:
    """A request reaches the gate as it was made, in the name of whose socket it came in on."""
    reply = await ask(who, method, path, body)
    assert reply.status == 200, reply.json
    after = [("show", "ada", 3, principal_of(who))] if call[0] == "wait_for_change" else []
    assert gate.calls == [(*call, principal_of(who)), *after]


async def test_questions_that_need_no_party(gate: FakeGate, ask: Ask) -> None:
    """The history of an agent is the operator's and the manager's to see; the index is the operator's to make anew."""
    for who in (OPERATOR, MANAGER):
        assert (await ask(who, "GET", "/v1/agents/ada/history?limit=5")).status == 200
        assert gate.calls.pop() == ("history", "ada", HistoryQuery(limit=5))
    reindexed = (await ask(OPERATOR, "POST", "/v1/proposals/reindex")).json
    assert (reindexed["proposals"], reindexed["work"], reindexed["changed"]) == (2, 3, 1)
    assert gate.calls == [("reindex",)]
    assert (await ask(MANAGER, "POST", "/v1/proposals/reindex")).status == 404


async def test_only_the_operator_prunes(gate: FakeGate, ask: Ask) -> None:
    """The files of ended proposals are the operator's to remove, of one agent or of all."""
    body = {"agent": "ada", "older_than_days": 7, "dry_run": True}
    assert (await ask(OPERATOR, "POST", "/v1/proposals/prune", body)).status == 200
    assert gate.calls == [("prune", PruneRequest.model_validate(body), principal_of(OPERATOR))]
    assert (await ask(OPERATOR, "POST", "/v1/proposals/prune", {})).status == 400
    assert (await ask(OPERATOR, "POST", "/v1/proposals/prune", {"older_than_days": -1})).status == 400
    assert (await ask(MANAGER, "POST", "/v1/proposals/prune", {})).status == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [*((method, path, body) for method, path, body, _ in DECIDERS + MANAGERS), ("GET", "/v1/agents/ada/history", None)],
)
async def test_only_the_manager(method: str, path: str, body: object, gate: FakeGate, ask: Ask) -> None:
    """No other agent can decide, roll back, look at a history or ask for a spawn, its own included."""
    reply = await ask(ADA, method, path, body)
    assert (reply.status, reply.code, gate.calls) == (403, "manager_only", [])


@pytest.mark.parametrize("name", ["..", "%2e%2e", "a%2Fb", "ADA", "operator", "a" * 10, "%00", "%d0%b0da"])
async def test_a_bad_name_goes_nowhere(name: str, gate: FakeGate, ask: Ask) -> None:
    """What is no agent's name never reaches the gate, where it would become part of a path."""
    targets = [
        ("GET", f"/v1/proposals/{name}/3", None), ("GET", f"/v1/proposals/{name}/3/log", None),
        ("POST", f"/v1/proposals/{name}/3/approve", {"expect": "built"}), ("GET", f"/v1/agents/{name}/history", None),
        ("POST", f"/v1/agents/{name}/rollback", {"note": "x"}), ("POST", f"/v1/agents/{name}/destroy", {}),
    ]  # fmt: skip
    for method, path, body in targets:
        reply = await ask(OPERATOR, method, path, body)
        assert (reply.status, reply.code) == (400, "bad_name"), path
    assert gate.calls == []


@pytest.mark.parametrize("number", ["x", "-1", "1.0", "+1", "%D9%A3", "9" * 19, "9" * 400])
async def test_a_bad_number_goes_nowhere(number: str, gate: FakeGate, ask: Ask) -> None:
    """What is no proposal's number is refused as such."""
    for path in (f"/v1/proposals/ada/{number}", f"/v1/proposals/ada/{number}/log"):
        reply = await ask(ADA, "GET", path)
        assert (reply.status, reply.code) == (400, "invalid_request")
    assert gate.calls == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/proposals", {"commit": "main", "note": "x"}),
        ("/v1/proposals", {"commit": SHA[:12], "note": "x"}),
        ("/v1/proposals", {"commit": SHA, "note": ""}),
        (f"{ONE}/approve", {}),
        (f"{ONE}/approve", {"expect": "ready"}),
        (f"{ONE}/deny", {"expect": "built"}),
        (f"{ONE}/deny", {"expect": "built", "note": ""}),
        ("/v1/agents/ada/rollback", {"note": "x", "number": -1}),
        ("/v1/agents/ada/rollback", {}),
    ],
)
async def test_a_bad_request_goes_nowhere(path: str, body: object, gate: FakeGate, ask: Ask) -> None:
    """A commit that is no full id, a decision that expects nothing, a denial without a reason: refused in words."""
    reply = await ask(MANAGER, "POST", path, body)
    assert (reply.status, reply.code, gate.calls) == (400, "invalid_request", [])


@pytest.mark.parametrize("of_agents", [False, True])
def test_waiting_is_given_up(of_agents: bool) -> None:
    """Questions that wait end when their caller hangs up; what changes something is seen through."""
    table = endpoints(FakeGate(), of_agents=of_agents)
    waiting = {f"{one.method} {one.path}" for one in table if one.waits}
    assert waiting == {f"GET /v1/proposals/{{name}}/{{number}}{more}" for more in ("", "/log")}


@pytest.mark.parametrize("of_agents", [False, True])
def test_the_document_describes_them(of_agents: bool) -> None:
    """Each endpoint has an operation of its own in the OpenAPI document, with its parameters."""
    table = endpoints(FakeGate(), of_agents=of_agents)
    paths = describe("x", table)["paths"]
    operations = [operation for item in paths.values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(table)
    of_one = paths["/v1/proposals/{name}/{number}"]["get"]["parameters"]
    assert [parameter["name"] for parameter in of_one] == ["name", "number", "unlike", "wait_seconds"]
