"""A Messages API on loopback, in the place of the model: a Python function says what it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.helpers.loopback import serving


@dataclass(frozen=True)
class Text:
    """The model says something."""

    text: str


@dataclass(frozen=True)
class ToolUse:
    """The model calls a tool."""

    name: str
    input: dict[str, object]


@dataclass(frozen=True)
class ApiError:
    """The API refuses the request."""

    status: int
    kind: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


Blocks = Sequence[Text | ToolUse]
Brain = Callable[[dict[str, Any]], Awaitable["Blocks | ApiError"]]


@dataclass
class ModelServer:
    """`brain` may be changed between requests. `requests` are the bodies that came, in order (`kept`: only the last
    so many); `arrived` is set when one has; `keys` are what the last ones came with as `Authorization`."""

    brain: Brain
    requests: list[dict[str, Any]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    kept: int | None = None
    keys: list[str] = field(default_factory=list)
    _count: int = 0
    _tool_uses: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self._count += 1
        self.keys = [*self.keys[-9:], request.headers.get("Authorization", "")]
        if self.kept is not None:
            del self.requests[: -self.kept]
        self.arrived.set()
        blocks = await self.brain(body)
        if isinstance(blocks, ApiError):
            error = {"type": "error", "error": {"type": blocks.kind, "message": blocks.message}}
            return web.json_response(error, status=blocks.status, headers=blocks.headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self._events(str(body.get("model")), blocks):
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        return response

    def _events(self, model: str, blocks: Blocks) -> list[dict[str, Any]]:
        usage = {"input_tokens": 10, "output_tokens": 10}
        message: dict[str, object] = {
            "id": f"msg_{self._count:06}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
        for index, block in enumerate(blocks):
            events += self._block(index, block)
        reason = "tool_use" if any(isinstance(block, ToolUse) for block in blocks) else "end_turn"
        delta = {"stop_reason": reason, "stop_sequence": None}
        events.append({"type": "message_delta", "delta": delta, "usage": usage})
        events.append({"type": "message_stop"})
        return events

    def _block(self, index: int, block: Text | ToolUse) -> list[dict[str, Any]]:
        start: dict[str, Any]
        delta: dict[str, Any]
        if isinstance(block, Text):
            start = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block.text}
        else:
            self._tool_uses += 1
            start = {"type": "tool_use", "id": f"toolu_{self._tool_uses:06}", "name": block.name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block.input)}
        return [
            {"type": "content_block_start", "index": index, "content_block": start},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]


async def _head(_request: web.Request) -> web.Response:
    return web.Response()


@asynccontextmanager
async def model_server(brain: Brain) -> AsyncIterator[ModelServer]:
    """Serve on a free port of loopback; give `url` to the agent CLI as ANTHROPIC_BASE_URL."""
    server = ModelServer(brain)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("HEAD", "/", _head)
    app.router.add_post("/v1/messages", server.answer)
    async with serving(app) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


def last_user_text(request: dict[str, Any]) -> str:
    """The prompt of a request: the last text of the last message of role `user`, except for the end of a prompt."""
    content = [message for message in request["messages"] if message["role"] == "user"][-1]["content"]
    if isinstance(content, str):
        return content
    texts = [str(block["text"]) for block in content if block["type"] == "text"]
    return texts[-2] if texts[-1] == "(end of the new messages)" else texts[-1]


def has_tool_result(request: dict[str, Any]) -> bool:
    """Whether the model is being told what its tool call gave."""
    content = request["messages"][-1]["content"]
    return isinstance(content, list) and any(block["type"] == "tool_result" for block in content)


def tool_results(request: dict[str, Any]) -> list[dict[str, Any]]:
    """All results of tools in the conversation so far."""
    return [
        block
        for message in request["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
