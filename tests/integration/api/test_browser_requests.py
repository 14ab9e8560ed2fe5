"""Requests that a web page could make a browser send do nothing on `host.sock`, even where a port leads to it."""

from __future__ import annotations

import pytest

from tests.helpers.real_daemon import Daemon
from tests.integration.api.raw_http import exchange, parse, request
from tests.integration.api.refusal_checks import nothing_changes

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGE = b'{"to": "ann", "body": "from a web page"}'
HEADERS = {
    "a foreign origin": {"Origin": "https://evil.example"},
    "an opaque origin": {"Origin": "null"},
    "the socket's own origin": {"Origin": "http://hive"},
    "an origin in capitals": {"ORIGIN": "https://evil.example"},
    "an empty origin": {"Origin": ""},
    "fetch metadata": {"Sec-Fetch-Site": "cross-site"},
    "other fetch metadata": {"sec-fetch-mode": "navigate"},
    "a rebound name": {"Host": "evil.example"},
    "a forwarded port": {"Host": "localhost:7000"},
    "an address": {"Host": "127.0.0.1"},
    "an address with a port": {"Host": "[::1]:7000"},
}
NOT_JSON = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", "")


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", MESSAGE)])
async def test_what_a_browser_sends(shared: Daemon, headers: dict[str, str], method: str, body: bytes | None) -> None:
    """Headers that only browsers send, and names of web servers, are refused, for reading as for changing."""
    with nothing_changes(shared):
        reply = await request(shared.host_socket, method, "/v1/messages", body, headers)
    assert (reply.status, reply.code) == (403, "browser_request")


@pytest.mark.parametrize("content_type", NOT_JSON)
async def test_bodies_that_need_no_consent(shared: Daemon, content_type: str) -> None:
    """A body of a type that a web page may send anywhere, or of none, is refused, although it is JSON."""
    with nothing_changes(shared):
        reply = await request(shared.host_socket, "POST", "/v1/messages", MESSAGE, {"Content-Type": content_type})
    assert (reply.status, reply.code) == (415, "not_json")


async def test_a_chunked_body_is_a_body(shared: Daemon) -> None:
    """A body without a length has to be JSON, too."""
    head = b"POST /v1/messages HTTP/1.1\r\nHost: hive\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with nothing_changes(shared):
        reply = parse(await exchange(shared.host_socket, head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(MESSAGE), MESSAGE)))
    assert (reply.status, reply.code) == (415, "not_json")


@pytest.mark.parametrize("host", ["hive", "localhost"])
async def test_clients_of_the_socket(shared: Daemon, host: str) -> None:
    """Programs that speak HTTP on the socket are answered, with a charset in the type, too."""
    headers = {"Host": host, "Content-Type": "application/json; charset=utf-8"}
    reply = await request(shared.host_socket, "POST", "/v1/messages", MESSAGE, headers)
    assert reply.status == 200, reply.body
