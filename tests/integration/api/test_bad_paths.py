"""Bad names in paths, wrong paths, methods and queries."""

from __future__ import annotations

import pytest

from tests.helpers.real_daemon import Daemon
from tests.integration.api.refusal_checks import Bad, check_refused, new_caller

pytestmark = pytest.mark.asyncio(loop_scope="module")

IN_PATHS = {
    "quoted parent": ("%2e%2e", 400, "bad_name"),
    "quoted slash": ("a%2fb", 400, "bad_name"),
    "quoted way out": ("..%2f..%2fhive", 400, "bad_name"),
    "quoted NUL": ("ann%00", 400, "bad_name"),
    "quoted line end": ("ann%0a", 400, "bad_name"),
    "quoted quotes": ("%252e%252e", 400, "bad_name"),
    "upper case": ("HM1ND", 400, "bad_name"),
    "ten characters": ("abcdefghij", 400, "bad_name"),
    "look-alike": ("%d0%b0nn", 400, "bad_name"),
    "no UTF-8": ("%ff%fe", 400, "bad_name"),
    "reserved": ("operator", 400, "bad_name"),
    "everyone": ("*", 400, "bad_name"),
    "long": ("a" * 4_000, 400, "bad_name"),
    "nobody": ("zoe", 404, "unknown_agent"),
    "empty": ("", 404, "not_found"),
    "slash": ("a/b", 404, "not_found"),
}
"""What may stand in a path for a name, and how it is refused."""

STRANGE_PATHS = [
    "/",
    "/v1",
    "/v1/",
    "/v2/whoami",
    "/v1/whoami/",
    "//v1/whoami",
    "/V1/whoami",
    "/v1/agents/ann",
    "/v1/agents/..",
    "/v1/agents/../../v1/status",
    "/v1/%2e%2e/etc/passwd",
    "/../../etc/passwd",
    "/v1/whoami%00",
    "/v1/%d0%be",
    "/v1/%7f%1b",
]

WRONG_METHODS = [
    ("PUT", "/v1/messages", "POST"),
    ("DELETE", "/v1/messages", "POST"),
    ("PATCH", "/v1/harness/state", "POST"),
    ("GET", "/v1/messages", "POST"),
    ("GET", "/v1/messages/receive", "POST"),
    ("OPTIONS", "/v1/whoami", "GET"),
    ("POST", "/v1/whoami", "GET"),
    ("PUT", "/v1/agents", "GET, POST"),
    ("POST", "/v1/openapi.json", "GET"),
]

WRONG_QUERIES = [
    ("/v1/agents/ann/logs?lines=0", 400, "invalid_request"),
    ("/v1/agents/ann/logs?lines=10001", 400, "invalid_request"),
    ("/v1/agents/ann/logs?lines=many", 400, "invalid_request"),
    ("/v1/agents/ann/logs?lines=", 400, "invalid_request"),
    ("/v1/agents/ann/logs?lines=1&lines=2", 400, "invalid_request"),
    ("/v1/agents/ann/logs?lines=%ff", 400, "invalid_request"),
    ("/v1/agents/ann/logs?cursor=/etc/passwd", 400, "invalid_request"),
    ("/v1/agents/ann/logs?wait_seconds=301", 400, "invalid_request"),
    ("/v1/agents/ann/logs?wait_seconds=nan", 400, "invalid_request"),
    ("/v1/agents/ann/logs?wait_seconds=inf", 400, "invalid_request"),
    ("/v1/agents/ann/logs?follow=1", 400, "invalid_request"),
    ("/v1/messages?view=sent", 400, "invalid_request"),
    ("/v1/messages?limit=-1", 400, "invalid_request"),
    ("/v1/messages?before=99999999999999999999", 400, "invalid_request"),
    ("/v1/messages/0/reply", 400, "invalid_request"),
    ("/v1/messages/9223372036854775808/reply", 400, "invalid_request"),
    ("/v1/messages/%d9%a1/reply", 400, "invalid_request"),
    ("/v1/messages/9223372036854775807/reply", 404, "unknown_message"),
    ("/v1/messages/1/reply?wait_seconds=x", 400, "invalid_request"),
    ("/v1/events?after=-1", 400, "invalid_request"),
    ("/v1/status?verbose=1", 400, "invalid_request"),
    ("/healthz?deep=1", 400, "invalid_request"),
]


async def test_names_in_operators_paths(shared: Daemon) -> None:
    """No path out of the hive's directories can be destroyed, started or looked at."""
    table = [
        Bad(method, f"/v1/agents/..%2f..%2fhive{verb}", 400, "bad_name")
        for method, verb in (("GET", ""), ("POST", "/destroy"), ("POST", "/start"))
    ]
    await check_refused(shared, table)


async def test_names_in_managers_paths(shared: Daemon) -> None:
    """No endpoint takes a bad name in its path, quoted or not."""
    cases = list(IN_PATHS.values())
    for method, verb, part in (
        ("GET", "logs", cases[::2]),
        ("POST", "stop", cases[1::2]),
        ("POST", "restart", cases[::3]),
    ):
        table = [Bad(method, f"/v1/agents/{name}/{verb}", status, code) for name, status, code in part]
        await check_refused(shared, table, "hm1nd")


async def test_strange_paths(shared: Daemon) -> None:
    """A path that no endpoint has is refused in the protocol's shape, and dots lead nowhere."""
    table = [Bad("GET", path, 404, "not_found") for path in STRANGE_PATHS]
    await check_refused(shared, table, await new_caller(shared))


async def test_wrong_methods(shared: Daemon) -> None:
    """A wrong method is refused in the protocol's shape and told which there are (RFC 9110, section 15.5.6)."""
    table = [Bad(method, path, 405, "method_not_allowed") for method, path, _ in WRONG_METHODS]
    replies = await check_refused(shared, table, await new_caller(shared))
    assert [reply.headers["allow"] for reply in replies] == [allowed for _, _, allowed in WRONG_METHODS]


async def test_wrong_queries(shared: Daemon) -> None:
    """Query parameters and resume headers that are unknown, repeated or out of bounds are refused, not left out."""
    table = [Bad("GET", target, status, code) for target, status, code in WRONG_QUERIES]
    for value in ("", "-1", "x", "1" * 20, "1 2"):
        table.append(Bad("GET", "/v1/events", 400, "invalid_request", headers={"Last-Event-ID": value}))
    await check_refused(shared, table)
