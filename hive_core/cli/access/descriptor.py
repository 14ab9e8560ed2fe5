"""A request whose answer carries a connected socket (SCM_RIGHTS in unix(7)), which HTTP's library would drop."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping

from hive_core.cli.client import PATIENCE_SECONDS, Client, bad_answer, encode_body, refusal_of

_MOST_BYTES = 1024 * 1024
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})\r\n", re.IGNORECASE)


def post_for_socket(client: Client, path: str, body: Mapping[str, object]) -> socket.socket:
    """Send a POST with a JSON body and return the socket that the answer carries. Raises Failure."""
    content = encode_body(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    received: list[int] = []
    try:
        with client.errors_as_failures(), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(os.fspath(client.path))
            connection.sendall(head.encode("ascii") + content)
            status, answer = _read_answer(connection, received)
        if status >= 400:
            raise refusal_of(status, answer)
        if len(received) != 1:
            raise bad_answer(status)
        return socket.socket(fileno=received.pop())
    finally:
        for descriptor in received:
            os.close(descriptor)


def _read_answer(connection: socket.socket, received: list[int]) -> tuple[int, bytes]:
    """Return status and body of the answer; append its descriptors to `received`. Raises ConnectionError."""
    answer = b""
    while len(answer) < _MOST_BYTES:
        part, descriptors, _, _ = socket.recv_fds(connection, 64 * 1024, 4)
        received += descriptors
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if not part:
            break
        answer += part
        head, end, body = answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n") if end else None
        if length is not None and len(body) >= int(length[1]):
            status = _STATUS.match(head)
            if status is None:
                break
            return int(status[1]), body[: int(length[1])]
    raise ConnectionError("no complete answer")
