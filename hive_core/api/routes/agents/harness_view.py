"""Requests to harnesses: their data and controls, on the agents' view sockets.

An agent is hostile, so that everything it answers is bounded in size and time, and parsed apart from the event loop.
Nobody but the daemon can write where the view sockets lie, so no path of an agent is resolved.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiohttp
from pydantic import ValidationError

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import READS
from hive_core.protocol import Answer, ErrorAnswer, Request
from hive_core.protocol.pages import CONTROL_KEY, CONTROL_PATH
from hive_core.text import escaped_line

A = TypeVar("A", bound=Answer)

MOST_ANSWER_BYTES = 2 * 1024 * 1024
"""A page of a transcript has at most half of that."""
MOST_EVENT_BYTES = 1024 * 1024
_SECONDS = 20.0
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 60.0
"""A stream says something at least every 15 s."""
_SHOWN = 500
_EVENTS = frozenset({b"now", b"entry", b"turn", b"state", b"snapshot", b"inbox", b"writing"})
"""The events that a harness publishes; others are left out."""


class HarnessViews:
    """The harnesses of all agents, as the daemon reaches them."""

    def __init__(self, socket_of: Callable[[str], Path]) -> None:
        """`socket_of` returns the path of an agent's view socket."""
        self._socket_of = socket_of
        self._keys: dict[str, str] = {}

    def key(self, name: str) -> str:
        """Return the key by which the daemon names itself to the agent's harness; it is new with each daemon."""
        return self._keys.setdefault(name, secrets.token_urlsafe(32))

    async def ask(self, name: str, path: str, answer: type[A], query: Mapping[str, str] | None = None) -> A:
        """Get what the harness tells. Raises `harness_unreachable`, `harness_answer`, and what the harness refuses."""
        async with self._request(name, "GET", path, query=query) as response:
            return await _parsed(name, response, answer)

    async def order(self, name: str, path: str, request: Request, answer: type[A], seconds: float) -> A:
        """Have the harness do something, which may take `seconds`. Raises as `ask` does."""
        body = request.model_dump_json().encode()
        async with self._request(name, "POST", path, body=body, seconds=seconds) as response:
            return await _parsed(name, response, answer)

    @asynccontextmanager
    async def follow(self, name: str, after: str | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open the harness's stream: server-sent events, each bounded; their data is as the harness wrote it.

        Raises as `ask` does.
        """
        headers = {} if after is None else {"Last-Event-ID": after}
        async with self._request(name, "GET", "events", headers=headers, seconds=None) as response:
            if response.status != 200:
                await _parsed(name, response, Answer)
            yield _events(response)

    @asynccontextmanager
    async def _request(
        self,
        name: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = _SECONDS,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        # The harness accepts only when its page is opened, so connecting succeeds at once and answering may not.
        silence = _SILENCE_SECONDS if seconds is None else None
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS, sock_read=silence)
        sent = {**(headers or {}), CONTROL_KEY: self.key(name), "Accept-Encoding": "identity"}
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(str(self._socket_of(name)), force_close=True),
                    timeout=timeout,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                ) as session,
                session.request(
                    method,
                    f"http://localhost{CONTROL_PATH}/{path}",
                    params=query,
                    data=body,
                    headers=sent,
                    allow_redirects=False,
                ) as response,
            ):
                yield response
        except TimeoutError:
            raise _unreachable(name, "it does not answer") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # aiohttp's texts may hold bytes of the agent's.
            raise _unreachable(name, f"it does not answer as a harness ({type(error).__name__})") from None


async def _parsed(name: str, response: aiohttp.ClientResponse, answer: type[A]) -> A:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > MOST_ANSWER_BYTES:
            raise _wrong(name, f"it is larger than {MOST_ANSWER_BYTES:,} bytes")
    if response.status == 200:
        return await READS.run(_validated, name, answer, bytes(content))
    refusal = await READS.run(_validated, name, ErrorAnswer, bytes(content))
    code = refusal.error.code
    if code == "not_the_daemon":
        raise _unreachable(name, "it has not yet registered with this daemon")
    if code != "not_now":
        raise _wrong(name, f"{response.status}: {_said(refusal.error.message)}")
    raise HiveError("not_now", f"{name} says: {_said(refusal.error.message)}", status=409)


def _validated(name: str, answer: type[A], content: bytes) -> A:
    try:
        return answer.model_validate_json(content)
    except ValidationError as error:
        raise _wrong(name, f"{error.error_count()} faults in its JSON") from None


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield whole events of a stream, made anew from what they may hold; a comment for anything else."""
    buffer, searched = bytearray(), 0
    async for chunk in response.content.iter_any():
        buffer += chunk
        while (end := buffer.find(b"\n\n", searched)) >= 0:
            frame = bytes(buffer[:end])
            del buffer[: end + 2]
            searched = 0
            yield _event(frame)
            await asyncio.sleep(0)  # Others have their turn, however much the agent says.
        searched = max(0, len(buffer) - 1)  # A long event in small parts is not searched again and again.
        if len(buffer) > MOST_EVENT_BYTES:
            return


def _event(frame: bytes) -> bytes:
    fields: dict[bytes, bytes] = {}
    for line in frame.split(b"\n"):
        name, _, value = line.partition(b":")
        fields[name] = value.removeprefix(b" ")
    kind, data, number = fields.get(b"event", b""), fields.get(b"data", b""), fields.get(b"id", b"")
    if kind not in _EVENTS or b"\r" in data or not (len(number) <= 64 and number.replace(b".", b"").isalnum()):
        return b": nothing new\n\n"
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (number, kind, data)


def _said(text: str) -> str:
    shown = escaped_line(text[:_SHOWN])
    return f'"{shown}"'


def _unreachable(name: str, why: str) -> HiveError:
    return HiveError(
        "harness_unreachable",
        f"the harness of {name} cannot be reached: {why}",
        hint=f'see "hive-c0re show {name}" and "hive-c0re logs {name}"',
        status=503,
    )


def _wrong(name: str, why: str) -> HiveError:
    return HiveError(
        "harness_answer",
        f"the answer of {name}'s harness is not taken: {why}",
        hint=f'"hive-c0re restart {name}" starts the harness again',
        status=502,
    )
