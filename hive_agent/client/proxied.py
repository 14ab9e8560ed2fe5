"""The command `hive-ag3nt connect`: a connection through the agent's proxy on stdin and stdout, a ProxyCommand of ssh.

It is started for each connection of ssh and git, so it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

_PROXY = ("127.0.0.1", 3128)
"""The proxy of sealed agents, where no variable names it: `hive_core.outside.egress_gateway.PROXY_PORT`."""
_ANSWER_SECONDS = 90.0
"""More than the proxy takes to reach a host."""
_MAX_HEAD = 64 * 1024
_MAX_WORDS = 4_000
_PIECE = 64 * 1024
_REFUSED = 1


def connect(host: str, port: int) -> int:
    """Pass stdin and stdout through the proxy to a port of a host until it hangs up; returns the exit code.

    The proxy's reason for a refusal goes to stderr, which ssh and git show.
    """
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        connection, rest = _open_tunnel(place)
    except OSError as error:
        sys.stderr.write(f"hive-ag3nt connect: {place} is not reached: {error.strerror or error}\n")
        return _REFUSED
    with connection:
        threading.Thread(target=_send, args=(connection,), daemon=True).start()
        try:
            _write(rest)
            while data := connection.recv(_PIECE):
                _write(data)
        except OSError:  # One of the ends has hung up.
            pass
    return 0


def proxy_address(variables: Mapping[str, str]) -> tuple[str, int]:
    """Return the host and port of the proxy, as other programs find them."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        found = urlsplit(variables.get(name, ""))
        if found.hostname and found.port:
            return found.hostname, found.port
    return _PROXY


def _open_tunnel(place: str) -> tuple[socket.socket, bytes]:
    """Return a connection to the place, and the first bytes that came from there. Raises OSError."""
    connection = socket.create_connection(proxy_address(os.environ), timeout=_ANSWER_SECONDS)
    try:
        connection.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        head, rest = _read_head(connection)
        if head.split(b" ")[1:2] != [b"200"]:
            raise OSError(_reason(connection, rest) or head.partition(b"\r\n")[0].decode(errors="replace"))
        connection.settimeout(None)
        return connection, rest
    except BaseException:
        connection.close()
        raise


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of the proxy's answer, and what was read after it. Raises OSError."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(_PIECE)
        if not piece or len(data) > _MAX_HEAD:
            raise OSError("the proxy does not answer as one")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _reason(connection: socket.socket, said: bytes) -> str:
    """Return the proxy's words on a refusal, with nothing on which a terminal acts."""
    while len(said) < _MAX_WORDS and (piece := connection.recv(_PIECE)):
        said += piece
    words = said[:_MAX_WORDS].decode(errors="replace").removeprefix("hyperhive: ").strip()
    return "".join(letter if letter.isprintable() else " " for letter in words)


def _send(connection: socket.socket) -> None:
    """Send what comes on stdin, until its end."""
    try:
        while data := os.read(sys.stdin.fileno(), _PIECE):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:  # The host has hung up.
        pass


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]
