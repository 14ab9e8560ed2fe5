"""Heads of HTTP/1 requests, read strictly: what two readers could understand differently is refused.

A head is lines that end with CRLF, without bare CR or LF, folded lines, white space around names, and characters
outside of the grammar of RFC 9112. What decides on the length of the body or on the host is there once. Upgrades,
trailers and HTTP/2 are refused. `Expect: 100-continue` is answered here, and not passed on.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hive_core.protocol.network.hosts import NoHost, normal_host, split_port

MAX_HEAD = 16 * 1024
"""Largest head, in bytes."""
MAX_FIELDS = 100

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]{1,8192}) HTTP/1\.([01])")
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}"
_VALUE = rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
_FIELD = re.compile(rb"(%b):[ \t]*+(%b)[ \t]*" % (_TOKEN, _VALUE))
"""White space before a value is never given back: an empty value between two runs of it would take quadratic time."""
_METHOD_START = re.compile(rb"[A-Z]{1,20}(?: |\Z)")
_ABSOLUTE = re.compile(r"http://([^/?#@\\]+)([/?][^#\\]*)?", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_ONCE = frozenset({b"expect", b"host", b"content-length", b"transfer-encoding", b"connection", b"proxy-connection"})
_REFUSED = {
    b"upgrade": "Upgrade is not passed on: use CONNECT for WebSockets and other protocols",
    b"http2-settings": "HTTP/2 is not spoken here",
    b"trailer": "trailers are not passed on",
}
_CONNECTION_OPTIONS = frozenset({b"close", b"keep-alive", b"te", b""})
_HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"te"),
        *(b"trailer", b"transfer-encoding", b"upgrade", b"host", b"content-length"),
    }
)
_NO_METHODS = frozenset({b"TRACE", b"PRI"})


class BadHead(ValueError):
    """The reason why a head is refused; a clause. `status` is that of the answer."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


class Head(NamedTuple):
    """A request for one port of one host. `target` is what follows the host, empty for CONNECT.

    `fields` are those that are passed on: without the ones that concern only this connection, the host, and the length
    of the body, which `length` holds (None: the body is chunked). With `waits` the body comes after a `100 Continue`.
    """

    method: str
    host: str
    port: int
    target: str
    fields: tuple[tuple[bytes, bytes], ...]
    length: int | None
    waits: bool = False

    @property
    def is_tunnel(self) -> bool:
        """Return True for CONNECT."""
        return self.method == "CONNECT"


def find_end(data: bytes | bytearray, searched: int = 0) -> int | None:
    """Return the length of the head in `data`, None if it is not complete. Raises BadHead.

    The first `searched` bytes were looked at before without finding it.
    """
    if not searched and data and not _METHOD_START.match(data[:21]):
        raise BadHead("the connection does not begin with an HTTP/1 request")
    end = data.find(b"\r\n\r\n", max(0, searched - 3))
    if end < 0 and len(data) < MAX_HEAD:
        return None
    if end < 0 or end + 4 > MAX_HEAD:
        raise BadHead(f"the head of the request is longer than {MAX_HEAD} bytes", 431)
    return end + 4


def read_head(data: bytes, within: tuple[str, int] | None = None) -> Head:
    """Read a head that `find_end` has found. Raises BadHead.

    `within` is the host and port of the tunnel in which the request was sent; it then has the origin form.
    """
    lines = data[:-4].split(b"\r\n")
    start = _REQUEST_LINE.fullmatch(lines[0])
    if start is None:
        raise BadHead("the request line is not that of an HTTP/1 request")
    method, target, minor = start.groups()
    if method in _NO_METHODS:
        raise BadHead(f"the method {method.decode()} is not passed on", 501)
    if len(lines) > MAX_FIELDS + 1:
        raise BadHead(f"the request has more than {MAX_FIELDS} fields", 431)
    passed: list[tuple[bytes, bytes]] = []
    special: dict[bytes, bytes] = {}
    for line in lines[1:]:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise BadHead("a line of the head is not a field: a bare CR or LF, a folded line, or a wrong character")
        name = field[1].lower()
        if name in _REFUSED:
            raise BadHead(_REFUSED[name])
        if name in _ONCE:
            if name in special:
                raise BadHead(f"the field {name.decode()} is there twice")
            special[name] = field[2]
        elif name not in _HOP_BY_HOP:
            passed.append((name, field[2]))
    _check_connection(special)
    host, port, path = _destination(method, target.decode(), within)
    _check_host(special.get(b"host"), minor, host, port)
    length = _length(special, minor)
    if method == b"CONNECT" and (b"content-length" in special or length is None):
        raise BadHead("a CONNECT request has no body")
    waits = _waits(special, method, minor)
    return Head(method.decode(), host, port, path, tuple(passed), length, waits)


def read_status_target(data: bytes) -> str:
    """Return the path that a GET request names in origin form, for the process's own pages. Raises BadHead."""
    start = _REQUEST_LINE.fullmatch(data.partition(b"\r\n")[0])
    if start is None or start[1] != b"GET":
        raise BadHead("only GET is answered here", 405)
    return start[2].decode()


def _destination(method: bytes, target: str, within: tuple[str, int] | None) -> tuple[str, int, str]:
    """Return host, port and path of the request's target. Raises BadHead."""
    if method == b"CONNECT":
        if within is not None:
            raise BadHead("a tunnel in a tunnel is not opened")
        host, port = _authority(target)
        if port is None:
            raise BadHead("CONNECT names no port")
        return host, port, ""
    if within is not None:
        if not target.startswith("/") or "#" in target:
            raise BadHead("a request in a tunnel names a path only")
        return *within, target
    if target.lower().startswith("https://"):
        raise BadHead("https:// is reached with CONNECT, and not through a proxy that could read it")
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise BadHead("the request names no http:// URL: this is a proxy")
    host, port = _authority(found[1])
    path = found[2] or "/"
    return host, port or 80, path if path.startswith("/") else f"/{path}"


def _authority(text: str) -> tuple[str, int | None]:
    try:
        host, port = split_port(text)
        return normal_host(host), port
    except NoHost as why:
        raise NotAName(text, str(why)) from None


def _check_host(field: bytes | None, minor: bytes, host: str, port: int) -> None:
    if field is None:
        if minor == b"1":
            raise BadHead("the request has no Host")
        return
    named, named_port = _authority(field.decode("latin-1"))
    if named != host or named_port not in (None, port):
        raise BadHead("Host is another one than that of the request line")


def _check_connection(special: dict[bytes, bytes]) -> None:
    for name in (b"connection", b"proxy-connection"):
        options = {option.strip(b" \t").lower() for option in special.get(name, b"").split(b",")}
        if not options <= _CONNECTION_OPTIONS:
            raise BadHead("Connection names something else than close and keep-alive")


def _waits(special: dict[bytes, bytes], method: bytes, minor: bytes) -> bool:
    expected = special.get(b"expect")
    if expected is None:
        return False
    if expected.lower() != b"100-continue" or method == b"CONNECT" or minor != b"1":
        raise BadHead("Expect names something else than 100-continue", 417)
    return True


def _length(special: dict[bytes, bytes], minor: bytes) -> int | None:
    """Return the length of the body, None if it is chunked. Raises BadHead."""
    length, coding = special.get(b"content-length"), special.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise BadHead("the request has both Content-Length and Transfer-Encoding")
        if coding.lower() != b"chunked" or minor != b"1":
            raise BadHead("the transfer encoding is not chunked alone, in HTTP/1.1")
        return None
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        raise BadHead("Content-Length is not a number")
    return int(length)


class NotAName(BadHead):
    """The reason why a request asks for no name of a host, for example for an address."""

    def __init__(self, asked: str, why: str) -> None:
        super().__init__(why, 403)
        self.asked = asked
