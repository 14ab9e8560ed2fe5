"""Heads of requests: what is passed on, and a corpus of what is refused because others could read it differently."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hive_core.services.egress.checks.heads import BadHead, Head, NotAName, find_end, read_head
from tests.helpers.network.hostile_requests import CORPUS, GET, POST

ADDRESSES = [
    *(b"127.0.0.1", b"[::1]", b"[::ffff:127.0.0.1]", b"2130706433.", b"0x7f.1", b"0177.0.0.1", b"127.1", b"1.2.3.4."),
    *(b"localhost", b"localhost.", b"a.localhost", b"host", b"printer.local", b"[fe80::1%25eth0]", b"0x7f000001."),
]  # fmt: skip


_GET = b"GET http://example.org/a HTTP/1.1\r\nHost: example.org\r\n"


def read(data: bytes) -> Head:
    """Read a head as the proxy does, which gets it piece by piece."""
    for size in range(1, len(data), 997):
        find_end(data[:size])
    end = find_end(data)
    assert end is not None
    return read_head(data[:end])


def test_the_corpus_is_large() -> None:
    """The corpus has more requests than were asked for."""
    assert len(CORPUS) >= 100


@pytest.mark.parametrize("data", CORPUS.values(), ids=CORPUS.keys())
def test_ambiguous_requests_are_refused(data: bytes) -> None:
    """A request that two readers could understand differently is refused, with a reason that can be printed."""
    with pytest.raises(BadHead) as refused:
        read(data)
    assert str(refused.value).isprintable() and 400 <= refused.value.status < 600


@pytest.mark.parametrize("filling", [b" ", b"\t", b"x ", b","])
@pytest.mark.parametrize("field", [b"X-A", b"Host", b"Connection", b"Content-Length"])
def test_the_longest_head_is_read_in_no_time(field: bytes, filling: bytes) -> None:
    """A head whose last character decides that it is refused keeps the proxy from its work for a moment only."""
    data = _GET + field + b":" + filling * (16_000 // len(filling)) + b"\x00\r\n\r\n"
    began = time.process_time()
    with pytest.raises(BadHead):
        read(data)
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize("host", ADDRESSES)
def test_addresses_and_local_names_are_refused(host: bytes) -> None:
    """No notation of an address is a host, in neither form of request."""
    for data in (
        b"CONNECT %b:443 HTTP/1.1\r\nHost: %b:443\r\n\r\n" % (host, host),
        b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n\r\n" % (host, host),
    ):
        with pytest.raises(NotAName):
            read(data)


def test_connect() -> None:
    """CONNECT names a host and a port; nothing of its head is passed on."""
    head = read(b"CONNECT Example.ORG.:443 HTTP/1.1\r\nHost: example.org\r\nUser-Agent: x\r\n\r\n\x16\x03")
    assert (head.method, head.host, head.port, head.target, head.is_tunnel) == ("CONNECT", "example.org", 443, "", True)
    assert read(b"CONNECT example.org:22 HTTP/1.0\r\n\r\n").port == 22


def test_absolute_form() -> None:
    """What concerns only the connection to the proxy is not passed on; all else is, as it came."""
    head = read(
        b"POST http://example.org:8080?x=1 HTTP/1.1\r\nHost: EXAMPLE.org:8080\r\nX-A:  b\t \r\nx-a: c\r\nEmpty:\r\n"
        b"Proxy-Authorization: Basic eDp5\r\nConnection: Keep-Alive, TE\r\nTE: trailers\r\nProxy-Connection: keep-alive"
        b"\r\nKeep-Alive: 5\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert (head.host, head.port, head.target, head.length) == ("example.org", 8080, "/?x=1", 5)
    assert head.fields == ((b"x-a", b"b"), (b"x-a", b"c"), (b"empty", b""))
    assert read(POST + b"Transfer-Encoding: Chunked\r\n\r\n").length is None
    head = read(POST + b"Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n")
    assert head.waits and head.fields == ()


def test_requests_within_a_tunnel() -> None:
    """A request in a tunnel to port 80 has the origin form, and the host of the tunnel."""
    within = ("example.org", 80)
    assert read_head(b"GET /a HTTP/1.1\r\nHost: example.org\r\n\r\n", within).target == "/a"
    for data in (
        b"GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"GET http://example.com/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
    ):
        with pytest.raises(BadHead):
            read_head(data, within)


@given(
    st.lists(
        st.sampled_from([GET, POST, b"\r\n", b"\n", b"\r", b": ", b" ", b"Content-Length: 5", b"Host: example.org"])
        | st.binary(max_size=20),
        max_size=12,
    ).map(b"".join)
)
@example(b"")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Bytes of any kind are a head, the beginning of one, or refused; never another error."""
    try:
        end = find_end(data)
        if end is not None:
            head = read_head(data[:end])
            assert b"\n" not in head.target.encode() and all(b"\n" not in value for _, value in head.fields)
    except BadHead as why:
        assert str(why).isprintable()
