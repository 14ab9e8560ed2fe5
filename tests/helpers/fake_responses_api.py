"""A Responses API on loopback, in the place of the model behind codex: a Python function says what it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.helpers.fake_messages_api import ApiError, Brain, Text, ToolUse
from tests.helpers.loopback import serving


@dataclass
class ResponsesServer:
    """`requests` are the bodies that came, in order; `arrived` is set when one has."""

    brain: Brain
    requests: list[dict[str, Any]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    _calls: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.arrived.set()
        blocks = await self.brain(body)
        if isinstance(blocks, ApiError):
            error = {"error": {"type": blocks.kind, "code": blocks.kind, "message": blocks.message, "param": None}}
            return web.json_response(error, status=blocks.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        name = f"resp_{len(self.requests):06}"
        events: list[dict[str, Any]] = [{"type": "response.created", "response": {"id": name}}]
        for block in blocks:
            events.append({"type": "response.output_item.done", "item": self._item(block)})
        usage = {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 15,
        }
        events.append({"type": "response.completed", "response": {"id": name, "usage": usage}})
        for event in events:
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        return response

    def _item(self, block: Text | ToolUse) -> dict[str, Any]:
        self._calls += 1
        if isinstance(block, Text):
            content = [{"type": "output_text", "text": block.text}]
            return {"type": "message", "role": "assistant", "id": f"msg_{self._calls:06}", "content": content}
        # Tools of an MCP server come in a namespace of their own: `mcp__hive/send` is `send` in `mcp__hive`.
        namespace, slash, name = block.name.rpartition("/")
        return {
            "type": "function_call",
            "id": f"fc_{self._calls:06}",
            "call_id": f"call_{self._calls:06}",
            "name": name,
            **({"namespace": namespace} if slash else {}),
            "arguments": json.dumps(block.input),
        }


@asynccontextmanager
async def responses_server(brain: Brain) -> AsyncIterator[ResponsesServer]:
    """Serve on a free port of loopback; `url` is the base address, which ends in /v1."""
    server = ResponsesServer(brain)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/responses", server.answer)
    async with serving(app) as port:
        server.url = f"http://127.0.0.1:{port}/v1"
        yield server
