"""A vendor on loopback: it keeps what it was sent, and answers as the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.helpers.loopback import serving

Responder = Callable[[web.Request, "Received"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class FakeVendor:
    """`respond` may be changed between requests."""

    respond: Responder
    url: str = ""
    requests: list[Received] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.method, request.path, dict(request.query), headers, await request.read())
        self.requests.append(received)
        self.arrived.set()
        try:
            return await self.respond(request, received)
        except (asyncio.CancelledError, ConnectionError):
            self.hung_up.set()
            raise


@asynccontextmanager
async def fake_vendor(respond: Responder) -> AsyncIterator[FakeVendor]:
    """Serve every path on a free port of loopback."""
    vendor = FakeVendor(respond)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", vendor.answer)
    async with serving(app) as port:
        vendor.url = f"http://127.0.0.1:{port}"
        yield vendor


async def stream(request: web.Request, *events: dict[str, Any] | str, end: bool = True) -> web.StreamResponse:
    """Send events, each in a chunk of its own; without `end` the connection breaks after them."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Set-Cookie": "a=b", "Server": "x"})
    await response.prepare(request)
    for event in events:
        await response.write(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode())
    if not end:
        assert request.transport is not None
        request.transport.abort()
    return response


MESSAGE_START: dict[str, Any] = {
    "type": "message_start",
    "message": {"model": "claude-haiku-4-5", "usage": {"input_tokens": 100, "output_tokens": 1}},
}
TEXT: dict[str, Any] = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello you"}}
MESSAGE_DELTA: dict[str, Any] = {"type": "message_delta", "usage": {"output_tokens": 20}}
MESSAGE_STOP: dict[str, Any] = {"type": "message_stop"}


async def whole_message(request: web.Request, _: Received) -> web.StreamResponse:
    """Answer as the Messages API does: 100 tokens of input, 20 of output."""
    return await stream(request, MESSAGE_START, TEXT, MESSAGE_DELTA, MESSAGE_STOP)
