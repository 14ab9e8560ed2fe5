"""The OpenAPI documents say what the sockets do: no more and no less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis

from tests.helpers.real_daemon import Daemon
from tests.integration.api.raw_http import request

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
AGENT = "/v1/agents/{name}"
PROPOSALS = "/v1/proposals"
PROPOSAL = f"{PROPOSALS}/{{name}}/{{number}}"
CONTROL = f"{AGENT}/control"
REPOSITORIES = "/v1/repositories"
REPOSITORY = f"{REPOSITORIES}/{{repo}}"
WORK = "/v1/work"
ONE_WORK = f"{WORK}/{{repo}}/{{number}}"
IN_PATHS = {"name": "ann", "repo": "shop", "id": 1, "number": 0, "file": "agent.toml"}

EVERYWHERE = {("GET", "/v1/openapi.json"), ("GET", "/v1/agents"), ("POST", "/v1/agents"), ("POST", "/v1/messages")}
LOOKING_AFTER = {
    *(("GET", f"{AGENT}/{what}") for what in ("logs", "limits")),
    *(("POST", f"{AGENT}/{verb}") for verb in ("start", "stop", "restart")),
}
GATE = {
    ("POST", PROPOSALS),
    *(("GET", path) for path in (PROPOSALS, PROPOSAL, f"{PROPOSAL}/log", f"{AGENT}/history")),
    *(("POST", f"{PROPOSAL}/{verb}") for verb in ("withdraw", "approve", "deny")),
    *(("POST", f"{AGENT}/{verb}") for verb in ("destroy", "rollback", "rebuild")),
}
GATE_OF_WORK = {
    *(("GET", path) for path in (WORK, ONE_WORK, f"{ONE_WORK}/log")),
    *(("POST", f"{ONE_WORK}/{verb}") for verb in ("withdraw", "approve", "deny", "retry", "comments")),
}
STEERING = {
    *(("GET", f"{CONTROL}{what}") for what in ("", "/turns", "/transcript", "/events")),
    *(("POST", f"{CONTROL}/{verb}") for verb in ("cancel", "retry", "skip", "pause", "resume", "compact")),
    *(("POST", f"{CONTROL}/{verb}") for verb in ("new-session", "model", "login", "code")),
    ("GET", f"{AGENT}/queue"),
    *(("POST", f"{AGENT}/queue/{{id}}/{verb}") for verb in ("remove", "edit", "move")),
    *((method, f"{AGENT}/configuration") for method in ("GET", "POST")),
    *((method, f"{AGENT}/secrets") for method in ("GET", "POST")),
    *(("POST", f"{AGENT}/{what}") for what in ("secrets/remove", "access")),
}
OF_REPOSITORIES = {
    *((method, REPOSITORIES) for method in ("GET", "POST")),
    *(("GET", path) for path in (REPOSITORY, f"{REPOSITORY}/refs")),
    *(("POST", f"{REPOSITORY}/{verb}") for verb in ("set", "remove", "fetch", "send")),
    ("POST", "/v1/host-keys"),
}
NETWORK, REQUESTS = "/v1/network", "/v1/network/requests"
REQUESTS_FOR_HOSTS = {
    ("GET", REQUESTS),
    *(("POST", f"{REQUESTS}/{{id}}/{verb}") for verb in ("approve", "deny")),
}
OF_THE_NETWORK = {
    *REQUESTS_FOR_HOSTS,
    *(("GET", path) for path in (NETWORK, f"{AGENT}/network", f"{AGENT}/network/log")),
    *(
        ("POST", f"{path}/{what}")
        for path in (NETWORK, f"{AGENT}/network")
        for what in ("rules", "rules/remove", "close")
    ),
}
OF_SPENDING = {
    *(("GET", path) for path in ("/v1/usage", "/v1/budget", f"{AGENT}/budget", f"{AGENT}/calls")),
    *(("POST", f"{path}/add") for path in ("/v1/budget", f"{AGENT}/budget")),
}
OF_PEOPLE = {
    *(("GET", f"/v1/{what}") for what in ("me", "people", "sessions", "tokens")),
    *(("POST", f"/v1/{what}") for what in ("sign-in", "sign-out", "set-up", "set-up-links", "me/password")),
    *(("POST", f"/v1/{what}") for what in ("people", "tokens", "sessions/revoke-all")),
    *(("POST", f"/v1/people/{{name}}/{verb}") for verb in ("link", "remove", "role")),
    *(("POST", f"/v1/{kind}/{{id}}/revoke") for kind in ("sessions", "tokens")),
    *((method, f"{AGENT}/owner") for method in ("GET", "POST")),
    ("POST", f"{AGENT}/contacts"),
}
OPERATORS = {
    *EVERYWHERE,
    *OF_PEOPLE,
    ("GET", f"{AGENT}/history/{{number}}"),
    *(("GET", f"{one}/files/{{file}}") for one in (PROPOSAL, ONE_WORK)),
    *OF_THE_NETWORK,
    *OF_SPENDING,
    *LOOKING_AFTER,
    *GATE,
    *GATE_OF_WORK,
    *STEERING,
    *OF_REPOSITORIES,
    *(("GET", path) for path in ("/healthz", "/metrics", "/v1/status", "/v1/events", "/v1/messages", AGENT)),
    *(("GET", path) for path in ("/v1/audit", "/v1/audit/verify", "/v1/messages/{id}/reply", "/v1/database")),
    ("POST", "/v1/database/copy"),
    *(
        ("POST", path)
        for path in ("/v1/messages/read", f"{PROPOSALS}/reindex", f"{PROPOSALS}/prune", f"{AGENT}/limits")
    ),
    ("POST", f"{PROPOSAL}/allow-fetches"),
    *(("GET", path) for path in ("/v1/activity", "/v1/kept")),
    *(("POST", path) for path in ("/v1/spawn/preview", "/v1/kept/{name}/purge")),
    *(("GET", path) for path in ("/v1/questions", "/v1/reminders")),
    *(("POST", path) for path in ("/v1/questions/{id}/answer", f"{AGENT}/page-tickets")),
}
AGENTS = {
    *EVERYWHERE,
    *REQUESTS_FOR_HOSTS,
    ("POST", REQUESTS),
    *LOOKING_AFTER,
    *GATE,
    *GATE_OF_WORK,
    ("POST", WORK),
    ("GET", "/v1/whoami"),
    *(("POST", f"/v1/harness/{verb}") for verb in ("hello", "state", "status")),
    *(("POST", path) for path in ("/v1/questions", "/v1/reminders", "/v1/reminders/{id}/cancel", "/v1/wake")),
    *(("GET", f"/v1/{what}") for what in ("open", "inbox", "logs", "budget")),
    *(("POST", f"/v1/page/{verb}") for verb in ("enter", "check", "send", "answer")),
    *(("POST", f"/v1/messages/{verb}") for verb in ("receive", "ack", "release", "renew")),
}
SOCKETS = [pytest.param(None, OPERATORS, id="host"), pytest.param("hm1nd", AGENTS, id="manager")]


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Method, path and description of every operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def objects(schema: object, document: Json) -> Iterator[Json]:
    """Every object that a schema allows, through references."""
    if isinstance(schema, list):
        for part in schema:
            yield from objects(part, document)
    elif isinstance(schema, dict):
        if "$ref" in schema:
            yield from objects(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
        if schema.get("type") == "object":
            yield schema
        for key, part in schema.items():
            if key not in ("default", "examples"):
                yield from objects(part, document)


@pytest.mark.parametrize(("agent", "expected"), SOCKETS)
async def test_document_is_valid_and_complete(
    shared: Daemon, agent: str | None, expected: set[tuple[str, str]]
) -> None:
    """The document is valid OpenAPI 3.1, names each operation once and describes exactly the protocol's endpoints."""
    document = await shared.ask("GET", "/v1/openapi.json", agent=agent)
    schemathesis.openapi.from_dict(document).validate()
    found = list(operations(document))
    assert {(method, path) for method, path, _ in found} == expected
    assert len({operation["operationId"] for _, _, operation in found}) == len(found)


async def test_all_agents_have_one_document(shared: Daemon) -> None:
    """The document tells an agent nothing that it does not tell the others."""
    documents = [await shared.ask("GET", "/v1/openapi.json", agent=name) for name in ("ann", "bob", "hm1nd")]
    assert documents[0] == documents[1] == documents[2]


@pytest.mark.parametrize(("agent", "expected"), SOCKETS)
async def test_routes_are_those_of_the_document(
    shared: Daemon, agent: str | None, expected: set[tuple[str, str]]
) -> None:
    """What the document has is there; every other method and the other socket's paths are refused."""
    place = shared.host_socket if agent is None else shared.core_socket(agent)
    for path in {path for _, path in OPERATORS | AGENTS}:
        for method in METHODS:
            # An unknown query parameter, so that nothing is carried out.
            target = path.format(**IN_PATHS) + "?unknown=1"
            reply = await request(place, method, target)
            known = {kind for kind, other in expected if other == path}
            wanted = 400 if method in known else 405 if known else 404
            assert reply.status == wanted, f"{method} {path}: {reply.body!r}"


@pytest.mark.parametrize(("agent", "expected"), SOCKETS)
async def test_requests_are_closed(shared: Daemon, agent: str | None, expected: set[tuple[str, str]]) -> None:
    """Every request model refuses unknown fields, in the document and in fact."""
    place = shared.host_socket if agent is None else shared.core_socket(agent)
    document = await shared.ask("GET", "/v1/openapi.json", agent=agent)
    bodies = 0
    for method, path, operation in operations(document):
        if "requestBody" not in operation:
            continue
        bodies += 1
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        for found in objects(schema, document):
            assert found["additionalProperties"] is False, f"{path}: {found.get('title')}"
        reply = await request(place, method, path.format(**IN_PATHS), {"unknown": 1})
        assert (reply.status, reply.code) == (400, "invalid_request")
        assert "body.unknown: there is no such key" in reply.json["error"]["message"], path
    assert bodies >= 4
