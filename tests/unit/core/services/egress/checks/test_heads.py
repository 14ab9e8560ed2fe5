"""Heads of requests: what is passed on, and a corpus of what is refused because others could read it differently."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hive_core.services.egress.checks.heads import MAX_HEAD, BadHead, Head, NotAName, find_end, read_head

_GET = b"GET http://example.org/a HTTP/1.1\r\nHost: example.org\r\n"
_POST = b"POST http://example.org/a HTTP/1.1\r\nHost: example.org\r\n"
_CONNECT = b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n"

CORPUS: dict[str, bytes] = {
    # The length of the body.
    "length and chunked": _POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked and length": _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "two lengths": _POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "the same length twice": _POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "a list of lengths": _POST + b"Content-Length: 5, 5\r\n\r\n",
    "a signed length": _POST + b"Content-Length: +5\r\n\r\n",
    "a negative length": _POST + b"Content-Length: -5\r\n\r\n",
    "a hexadecimal length": _POST + b"Content-Length: 0x5\r\n\r\n",
    "a length with an underscore": _POST + b"Content-Length: 1_0\r\n\r\n",
    "an empty length": _POST + b"Content-Length: \r\n\r\n",
    "a length with a comment": _POST + b"Content-Length: 5;q=1\r\n\r\n",
    "a length of many digits": _POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "a length with a superscript digit": _POST + b"Content-Length: \xb2\r\n\r\n",
    "a length with white space within": _POST + b"Content-Length: 5 5\r\n\r\n",
    "two codings": _POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked and identity": _POST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "identity and chunked": _POST + b"Transfer-Encoding: identity, chunked\r\n\r\n",
    "gzip and chunked": _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked with a parameter": _POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n",
    "an unknown coding": _POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunked in quotes": _POST + b'Transfer-Encoding: "chunked"\r\n\r\n',
    "chunked with a vertical tab": _POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    "chunked in HTTP/1.0": b"POST http://example.org/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "an empty coding": _POST + b"Transfer-Encoding:\r\n\r\n",
    # Ends of lines, and folded ones.
    "a bare LF after the request line": b"GET http://example.org/ HTTP/1.1\nHost: example.org\r\n\r\n",
    "a bare LF after a field": _GET + b"A: b\nContent-Length: 5\r\n\r\n",
    "a bare CR in a field": _GET + b"A: b\rContent-Length: 5\r\n\r\n",
    "a bare CR in the request line": b"GET http://example.org/\r HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "CR CR LF": _GET + b"A: b\r\r\nB: c\r\n\r\n",
    "a NUL in a value": _GET + b"A: b\x00c\r\n\r\n",
    "an escape in a value": _GET + b"A: \x1b[2J\r\n\r\n",
    "a folded line": _GET + b"A: b\r\n Content-Length: 5\r\n\r\n",
    "a line folded with a tab": _GET + b"A: b\r\n\tc\r\n\r\n",
    "a folded first field": b"GET http://example.org/ HTTP/1.1\r\n Host: example.org\r\n\r\n",
    "a folded length": _POST + b"Content-Length:\r\n 5\r\n\r\n",
    # Names of fields.
    "white space before the colon": _POST + b"Content-Length : 5\r\n\r\n",
    "a tab before the colon": _POST + b"Transfer-Encoding\t: chunked\r\n\r\n",
    "an empty name": _GET + b": b\r\n\r\n",
    "a line without a colon": _GET + b"Content-Length 5\r\n\r\n",
    "a name with an umlaut": _GET + b"Content-L\xe4ngth: 5\r\n\r\n",
    "a name with a bracket": _GET + b"Content-Length[0]: 5\r\n\r\n",
    "a name with a NUL": _GET + b"Content-Length\x00: 5\r\n\r\n",
    "a name of 300 characters": _GET + b"A" * 300 + b": b\r\n\r\n",
    # The host.
    "no host": b"GET http://example.org/ HTTP/1.1\r\n\r\n",
    "an empty host": b"GET http://example.org/ HTTP/1.1\r\nHost:\r\n\r\n",
    "two hosts": _GET + b"Host: example.org\r\n\r\n",
    "two hosts, one in capitals": _GET + b"HOST: internal.example.org\r\n\r\n",
    "another host": b"GET http://example.org/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "another port": b"GET http://example.org/ HTTP/1.1\r\nHost: example.org:8080\r\n\r\n",
    "a list of hosts": b"GET http://example.org/ HTTP/1.1\r\nHost: example.org, example.com\r\n\r\n",
    "a host with a user": b"GET http://example.org/ HTTP/1.1\r\nHost: example.org@example.com\r\n\r\n",
    "a host with a path": b"GET http://example.org/ HTTP/1.1\r\nHost: example.org/x\r\n\r\n",
    "CONNECT with another host": b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
    "CONNECT with another port": b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:80\r\n\r\n",
    # The target.
    "origin form": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "authority form without CONNECT": b"GET example.org:80 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "https in absolute form": b"GET https://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "another scheme": b"GET ftp://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "a scheme with white space": b"GET  http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "a user in the URL": b"GET http://example.org@example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "a fragment in the URL": b"GET http://example.org/#@example.com HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "a backslash in the URL": b"GET http://example.org\\@example.com/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "a backslash in the path": b"GET http://example.org/\\..\\x HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "an escaped host": b"GET http://example%2eorg/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "a host without a name": b"GET http:///x HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "bytes beyond ASCII in the target": b"GET http://example.org/\xc3\xa4 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "CONNECT without a port": b"CONNECT example.org HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "CONNECT with a URL": b"CONNECT http://example.org:443/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "CONNECT with a path": b"CONNECT example.org:443/x HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "CONNECT with an odd port": b"CONNECT example.org:00443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "CONNECT with two ports": b"CONNECT example.org:443:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "CONNECT with a body": _CONNECT + b"Content-Length: 5\r\n\r\n",
    "CONNECT with an empty body": _CONNECT + b"Content-Length: 0\r\n\r\n",
    "CONNECT with chunks": _CONNECT + b"Transfer-Encoding: chunked\r\n\r\n",
    # Other protocols, and what changes how a connection is read.
    "an upgrade": _GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "an upgrade without Connection": _GET + b"Upgrade: h2c\r\n\r\n",
    "an upgrade of CONNECT": _CONNECT + b"Upgrade: websocket\r\n\r\n",
    "settings of HTTP/2": _GET + b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2 in the request line": b"GET http://example.org/ HTTP/2.0\r\nHost: example.org\r\n\r\n",
    "HTTP/1.2": b"GET http://example.org/ HTTP/1.2\r\nHost: example.org\r\n\r\n",
    "HTTP/01.1": b"GET http://example.org/ HTTP/01.1\r\nHost: example.org\r\n\r\n",
    "HTTP/0.9": b"GET http://example.org/\r\n\r\n",
    "http in small letters": b"GET http://example.org/ http/1.1\r\nHost: example.org\r\n\r\n",
    "words after the version": b"GET http://example.org/ HTTP/1.1 x\r\nHost: example.org\r\n\r\n",
    "another Expect": _POST + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\n",
    "Expect twice": _POST + b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    "Expect of CONNECT": _CONNECT + b"Expect: 100-continue\r\n\r\n",
    "a trailer": _POST + b"Trailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n",
    "Connection that names a field": _GET + b"Connection: close, Host\r\n\r\n",
    "Connection that names the length": _POST + b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\n",
    "two Connections": _GET + b"Connection: close\r\nConnection: keep-alive\r\n\r\n",
    "TRACE": b"TRACE http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "a method in small letters": b"get http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "a long method": b"A" * 30 + b" http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    # What is no request, and sizes.
    "an empty line first": b"\r\n" + _GET + b"\r\n",
    "white space first": b" " + _GET + b"\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303") + b"\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "SOCKS": b"\x05\x01\x00",
    "101 fields": _GET + b"".join(b"A%d: b\r\n" % number for number in range(101)) + b"\r\n",
    "a huge field": _GET + b"A: " + b"b" * MAX_HEAD + b"\r\n\r\n",
    "a huge target": b"GET http://example.org/" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "a head without an end": _GET + b"A: b\r\n" * 4_000,
}  # fmt: skip

ADDRESSES = [
    *(b"127.0.0.1", b"[::1]", b"[::ffff:127.0.0.1]", b"2130706433.", b"0x7f.1", b"0177.0.0.1", b"127.1", b"1.2.3.4."),
    *(b"localhost", b"localhost.", b"a.localhost", b"host", b"printer.local", b"[fe80::1%25eth0]", b"0x7f000001."),
]  # fmt: skip


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
    assert read(_POST + b"Transfer-Encoding: Chunked\r\n\r\n").length is None
    head = read(_POST + b"Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n")
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
        st.sampled_from([_GET, _POST, b"\r\n", b"\n", b"\r", b": ", b" ", b"Content-Length: 5", b"Host: example.org"])
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
