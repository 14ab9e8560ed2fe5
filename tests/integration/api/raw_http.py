"""HTTP byte by byte over a unix socket, for requests that no proper client would send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 20.0


@dataclass(frozen=True)
class Reply:
    """One answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code; checks that the answer has the protocol's error shape and nothing else."""
        answer = self.json
        assert self.headers["content-type"].startswith("application/json")
        assert list(answer) == ["error"]
        assert list(answer["error"])[:3] == ["code", "message", "hint"]
        assert set(answer["error"]) <= {"code", "message", "hint", "fields"}
        assert answer["error"].get("fields", True), "there are wrong fields, or no list of them"
        assert answer["error"]["message"]
        assert self.body.isascii(), "what a caller sent is shown in ASCII"
        code: str = answer["error"]["code"]
        return code


async def exchange(place: Path, data: bytes) -> bytes:
    """Send `data` on a new connection; everything that comes back until the other side hangs up."""
    reader, writer = await asyncio.open_unix_connection(str(place))
    received = b""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            # A server may refuse and hang up before it has read everything.
            with suppress(ConnectionError):
                writer.write(data)
                await writer.drain()
            with suppress(ConnectionError):
                while chunk := await reader.read(65_536):
                    received += chunk
    finally:
        writer.transport.abort()
    return received


def encode(method: str, target: str, body: object = None, headers: Mapping[str, str] | None = None) -> bytes:
    """A request after which the server is to hang up. A `body` that is not bytes is sent as JSON."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Host": "hive", "Connection": "close", "Content-Length": str(len(content))}
    fields |= {"Content-Type": "application/json"} if content else {}
    fields |= headers or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + content


def parse(data: bytes) -> Reply:
    """The one answer in `data`."""
    head, separator, body = data.partition(b"\r\n\r\n")
    assert separator, f"no answer, but {data!r}"
    first, *lines = head.decode().split("\r\n")
    fields = (line.partition(": ") for line in lines)
    return Reply(int(first.split()[1]), {name.lower(): value for name, _, value in fields}, body)


async def request(
    place: Path, method: str, target: str, body: object = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """One request on a connection of its own, sent as it is: nothing is quoted, normalised or followed."""
    return parse(await exchange(place, encode(method, target, body, headers)))
