"""Bodies that are not of the protocol's form, or too large."""

from __future__ import annotations

import json

import pytest

from tests.helpers.real_daemon import Daemon
from tests.integration.api.raw_http import exchange, parse, request
from tests.integration.api.refusal_checks import Bad, audit_rows, check_refused, new_caller, nothing_changes

pytestmark = pytest.mark.asyncio(loop_scope="module")

INSTANCE = "instance-1"
LIMIT = 256 * 1024


def send(**fields: object) -> object:
    """A message to ann, with some fields set otherwise."""
    return {"to": "ann", "body": "hello", **fields}


WRONG_TYPES: list[tuple[str, object]] = [
    ("/v1/messages", send(body=1)),
    ("/v1/messages", send(body=None)),
    ("/v1/messages", send(body=["hello"])),
    ("/v1/messages", send(body={"text": "hello"})),
    ("/v1/messages", send(to=1)),
    ("/v1/messages", send(to=None)),
    ("/v1/messages", send(to=["ann"])),
    ("/v1/messages", send(reply_to="1")),
    ("/v1/messages", send(reply_to=1.0)),
    ("/v1/messages", send(reply_to=True)),
    ("/v1/messages", send(reply_to=0)),
    ("/v1/messages", send(reply_to=-1)),
    ("/v1/messages", send(reply_to=2**63)),
    ("/v1/messages", send(reply_to=10**400)),
    ("/v1/messages", send(idempotency_key="")),
    ("/v1/messages", send(idempotency_key="k" * 129)),
    ("/v1/messages", send(sender="hm1nd")),
    ("/v1/messages", {"to": "ann"}),
    ("/v1/messages/receive", {"instance": INSTANCE, "max": "1"}),
    ("/v1/messages/receive", {"instance": INSTANCE, "max": True}),
    ("/v1/messages/receive", {"instance": INSTANCE, "max": 0}),
    ("/v1/messages/receive", {"instance": INSTANCE, "wait_seconds": "1"}),
    ("/v1/messages/receive", {"instance": INSTANCE, "wait_seconds": 301}),
    ("/v1/messages/receive", {"instance": INSTANCE, "wait_seconds": -0.1}),
    ("/v1/messages/ack", {"instance": INSTANCE, "ids": [True]}),
    ("/v1/messages/ack", {"instance": INSTANCE, "ids": 1}),
    ("/v1/harness/hello", {"instance": "../../etc", "version": "1"}),
    ("/v1/harness/state", {"instance": INSTANCE, "state": "asleep"}),
]

SPAWNS: list[object] = [
    {"name": 1},
    {"name": None},
    {"name": ["zoe"]},
    {"name": "zoe", "start": "yes"},
    {"name": "zoe", "start": 1},
    {"name": "zoe", "kind": "manager"},
    {"name": "zoe", "config": None},
    {"name": "zoe", "config": {"backend": "other"}},
    {"name": "zoe", "config": {"turn_timeout": 0}},
    {"name": "zoe", "config": {"turn_timeout": True}},
    {"name": "zoe", "config": {"tools": "Bash"}},
    {"name": "zoe", "config": {"allowed_recipients": "ann"}},
    {"name": "zoe", "config": {"colour": "red"}},
    {"name": "zoe", "config": {"script": [{"match": "x", "send": [{"to": "ANN", "text": "x"}]}]}},
    {"name": "zoe", "config": {"script": [{"shell": "reboot"}]}},
    {"name": "zoe", "prompt": "p" * 100_001},
    {"name": "zoe", "agent_nix": 1},
    {},
]

NO_JSON: list[bytes] = [
    b"",
    b" ",
    b"hello",
    b"{",
    b"{}{}",
    b"[]",
    b"null",
    b"1",
    b'"text"',
    b"to=ann&body=hello",
    b'{"to": "ann", "body": "x",}',
    b'{"to": "ann", "body": \'x\'}',
    b'{"to": "ann", "body": "x"} trailing',
    b'{"to": "ann", "body": "\xff\xfe"}',
    b'{"to": "ann", "body": "\xed\xa0\x80"}',
    b'{"to": "ann", "body": "\\ud800"}',
    b'{"to": "ann", "body": "\\udc00\\ud800"}',
    b'{"to": "ann", "body": "line\nend"}',
    b'{"to": "ann", "body": "x", "reply_to": NaN}',
    b'{"to": "ann", "body": "x", "reply_to": 1e999}',
    b'{"to": "ann", "body": "x", "reply_to": ' + b"9" * 100_000 + b"}",
    b'{"to": "ann", "body": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    b"[" * 10_000,
    b'{"a":' * 10_000,
    json.dumps({"to": "ann", "body": "x"}).encode("utf-16"),
    b"\xef\xbb\xbf{}",
]


async def test_wrong_types(shared: Daemon) -> None:
    """Types are not guessed at, and limits of numbers and texts hold."""
    table = [Bad("POST", path, 400, "invalid_request", body) for path, body in WRONG_TYPES]
    await check_refused(shared, table, await new_caller(shared))


async def test_wrong_spawns(shared: Daemon) -> None:
    """What is wrong anywhere in an agent's configuration is refused, and no agent is made."""
    await check_refused(shared, [Bad("POST", "/v1/agents", 400, "invalid_request", body) for body in SPAWNS])


async def test_no_json(shared: Daemon) -> None:
    """What is no JSON object in UTF-8 is refused, however it is broken."""
    table = [Bad("POST", "/v1/messages", 400, "invalid_request", body) for body in NO_JSON]
    await check_refused(shared, table, await new_caller(shared))


async def test_unknown_fields(shared: Daemon) -> None:
    """A field that the protocol does not know is named in the refusal, in ASCII, and never ignored."""
    keys = ["From", "body ", "b\u043edy", "\x1b[2J", "__class__", "k" * 10_000]
    table = [Bad("POST", "/v1/messages", 400, "invalid_request", send(**{key: "x"})) for key in keys]
    for reply in await check_refused(shared, table, await new_caller(shared)):
        assert reply.json["error"]["message"].startswith("body.")


async def test_repeated_keys(shared: Daemon) -> None:
    """Of a key that comes twice the last value counts, for what is checked as for what is stored."""
    body = b'{"to": "operator", "to": "ann", "body": "x"}'
    await check_refused(shared, [Bad("POST", "/v1/messages", 403, "recipient_not_allowed", body)], "bob")
    reply = await request(shared.core_socket("bob"), "POST", "/v1/messages", b'{"to":"ann","to":"operator","body":"x"}')
    assert reply.json["recipients"] == ["operator"]


async def test_largest_body(shared: Daemon) -> None:
    """A message of 256 KiB passes and one byte more does not; UTF-8 bytes count, not characters."""
    for text in ("x" * LIMIT, "\u20ac" * (LIMIT // 3) + "x", "\U0001f41d" * (LIMIT // 4), "\x01" * LIMIT):
        assert len(text.encode()) == LIMIT
        reply = await request(shared.core_socket("ann"), "POST", "/v1/messages", {"to": "operator", "body": text})
        assert reply.status == 200, reply
        ((stored,),) = shared.sql("SELECT body FROM messages WHERE id = ?", reply.json["id"])
        assert stored == text
        too_much = {"to": "bob", "body": text + "x"}
        await check_refused(shared, [Bad("POST", "/v1/messages", 413, "body_too_large", too_much)], "ann")


async def test_largest_request(shared: Daemon) -> None:
    """A request of more than 2 MiB is refused, whether it says its length or not, and the socket still answers."""
    big = b'{"to": "ann", "body": "' + b"x" * (2 * 1024 * 1024) + b'"}'
    await check_refused(shared, [Bad("POST", "/v1/messages", 413, "request_too_large", big)], "ann")
    chunked = b"POST /v1/messages HTTP/1.1\r\nHost: hive\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    before = len(audit_rows(shared))
    with nothing_changes(shared):
        reply = parse(await exchange(shared.core_socket("ann"), chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(big), big)))
    assert (reply.status, reply.code) == (413, "request_too_large")
    assert [row[3] for row in audit_rows(shared, before)] == ["request_too_large"]
    assert (await shared.ask("GET", "/v1/whoami", agent="ann"))["name"] == "ann"
