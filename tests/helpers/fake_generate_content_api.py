"""Google's generateContent API on loopback, in the place of the model behind gemini, as a function answers it."""

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
class GenerateContentServer:
    """`requests` are the bodies that came, in order; `arrived` is set when one has."""

    brain: Brain
    requests: list[dict[str, Any]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not request.path.endswith(":streamGenerateContent"):
            return web.json_response({"error": {"code": 404, "message": "not here", "status": "NOT_FOUND"}}, status=404)
        self.requests.append(body)
        self.arrived.set()
        blocks = await self.brain(body)
        if isinstance(blocks, ApiError):
            error = {"error": {"code": blocks.status, "message": blocks.message, "status": blocks.kind}}
            return web.json_response(error, status=blocks.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunk = {
            "candidates": [
                {
                    "content": {"role": "model", "parts": [_part(block) for block in blocks]},
                    "finishReason": "STOP",
                    "index": 0,
                }
            ],
            "usageMetadata": {
                "promptTokenCount": 10,
                "cachedContentTokenCount": 4,
                "candidatesTokenCount": 5,
                "totalTokenCount": 15,
            },
        }
        await response.write(f"data: {json.dumps(chunk)}\r\n\r\n".encode())
        return response


def _part(block: Text | ToolUse) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"text": block.text}
    return {"functionCall": {"name": block.name, "args": block.input}}


@asynccontextmanager
async def generate_content_server(brain: Brain) -> AsyncIterator[GenerateContentServer]:
    """Serve on a free port of loopback; give `url` to the agent CLI as GOOGLE_GEMINI_BASE_URL."""
    server = GenerateContentServer(brain)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{version}/models/{call}", server.answer)
    async with serving(app) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server
