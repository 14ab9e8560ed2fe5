"""A daemon that knows people by their sessions and tokens, for the dashboard's own tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

PEOPLE = {
    "hs_ada": ("ada", "operator"),
    "hs_eve": ("eve", "viewer"),
    "ht_ada": ("ada", "operator"),
    "ht_adm": ("adm", "admin"),
}


@asynccontextmanager
async def fake_people(socket: Path) -> AsyncIterator[list[web.BaseRequest]]:
    """Serve the fake on a socket; yields the requests that it has got."""
    seen: list[web.BaseRequest] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if request.path == "/healthz":
            return web.json_response({"status": "ok"})
        if token not in PEOPLE:
            error = {"code": "not_signed_in", "message": "you are not signed in", "hint": "sign in"}
            return web.json_response({"error": error}, status=401)
        if request.path == "/v1/me":
            name, role = PEOPLE[token]
            return web.json_response({"name": name, "role": role})
        if request.path == "/v1/echo":
            body = await request.text()
            return web.json_response({"headers": dict(request.headers), "body": body, "target": request.raw_path})
        if request.path == "/v1/events":
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b"id: 7\ndata: {}\n\n")
            await response.write_eof()
            return response
        error = {"code": "not_found", "message": "there is nothing of this name", "hint": ""}
        return web.json_response({"error": error}, status=404)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield seen
    finally:
        await runner.cleanup()
