"""What is no HTTP, or only half of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.helpers.real_daemon import Daemon
from tests.integration.api.raw_http import exchange
from tests.integration.api.refusal_checks import nothing_changes

pytestmark = pytest.mark.asyncio(loop_scope="module")

GARBAGE = {
    "zeros": b"\x00" * 10_000,
    "all bytes": bytes(range(256)) * 100,
    "no line end": b"A" * 1_000_000,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 508,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET /v1/whoami HTTP/9.9\r\n\r\n",
    "unknown method": b"FROB /v1/whoami HTTP/1.1\r\nHost: h\r\n\r\n",
    "long target": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "target not ASCII": b"GET /v1/\xd0\xbe HTTP/1.1\r\nHost: h\r\n\r\n",
    "long header": b"GET /v1/whoami HTTP/1.1\r\nHost: " + b"h" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /v1/whoami HTTP/1.1\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
    "no colon": b"GET /v1/whoami HTTP/1.1\r\nHost\r\n\r\n",
    "two lengths": b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "length and chunks": b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    "huge length": b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: " + b"9" * 50 + b"\r\n\r\n",
    "bad chunk": b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage(shared: Daemon, data: bytes) -> None:
    """Bytes that are no request get an answer 400 or none, change nothing, and end the connection."""
    with nothing_changes(shared):
        answer = await exchange(shared.core_socket("ann"), data)
        assert not answer or answer.split()[1].startswith(b"4"), answer
        assert b"Traceback" not in answer
    assert (await shared.ask("GET", "/v1/whoami", agent="ann"))["name"] == "ann"
    assert not shared.log_entries("request failed")


async def test_half_requests(shared: Daemon) -> None:
    """Callers that stop in the middle of a request keep nobody waiting, and nothing of it is carried out."""
    head = b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n"
    with nothing_changes(shared):
        writers = []
        for data in (b"P", head[:-10], head, head + b'{"to": "bob", "body": "x"}'):
            _, writer = await asyncio.open_unix_connection(str(shared.core_socket("ann")))
            writer.write(data)
            await writer.drain()
            writers.append(writer)
        assert (await shared.ask("GET", "/v1/whoami", agent="ann"))["name"] == "ann"
        for writer in writers:
            writer.transport.abort()
        assert (await shared.ask("GET", "/v1/whoami", agent="ann"))["name"] == "ann"
    assert not shared.log_entries("request failed")
