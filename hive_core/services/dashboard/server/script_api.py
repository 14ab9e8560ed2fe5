"""The way through for scripts: requests with an API token go to the daemon and their answers come back, unchanged."""

from __future__ import annotations

from http import HTTPStatus

import aiohttp
from aiohttp import web
from yarl import URL

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import HiveConnection, HiveUnreachable

PREFIX = "/api"
_PASSED = ("Authorization", "Content-Type", "Accept", "Last-Event-ID")
_RETURNED = ("Content-Type", "Retry-After", "Content-Disposition", "Location")
_MOST_BYTES = 16 * 1024 * 1024
_CHUNK = 64 * 1024
_LIMITS = aiohttp.ClientTimeout(total=None, sock_connect=10)


class ScriptApi:
    """`/api/v1/...`: the daemon's API as it is on the dashboard's socket, by an API token."""

    def __init__(self, connection: HiveConnection) -> None:
        self._connection = connection

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        """Answer with the description of the API, which is the same for everybody."""
        return await self._pass(request, "/v1/openapi.json", {})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on.

        A session does not do: a page of another origin could make a browser send its cookie. A browser sends no token
        by itself.
        """
        if not request.headers.get("Authorization", "").startswith("Bearer ht_"):
            hint = "send the header Authorization: Bearer ht_...; a person makes a token on the page Settings"
            raise HiveError("not_signed_in", "the API wants an API token", hint=hint, status=HTTPStatus.UNAUTHORIZED)
        headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
        if request.remote:
            headers["Hive-Client-Address"] = request.remote
        return await self._pass(request, request.raw_path.removeprefix(PREFIX), headers)

    async def _pass(self, request: web.Request, target: str, headers: dict[str, str]) -> web.StreamResponse:
        body = request.content if request.body_exists else None
        if (request.content_length or 0) > _MOST_BYTES:
            why = f"the body has more than {_MOST_BYTES // 1024 // 1024} MiB"
            raise HiveError("too_large", why, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            async with self._connection.open().request(
                request.method,
                URL(f"http://hive{target}", encoded=True),
                data=body,
                headers=headers,
                timeout=_LIMITS,
                allow_redirects=False,
                skip_auto_headers=["User-Agent", "Content-Type", "Accept"],
            ) as answer:
                return await _answer(request, answer)
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
            raise HiveUnreachable from None


async def _answer(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {name: answer.headers[name] for name in _RETURNED if name in answer.headers}
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = answer.content_length
    response.headers["X-Accel-Buffering"] = "no"
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (aiohttp.ClientError, ConnectionError):
        # The head is sent: the script sees a body that has no end.
        if request.transport is not None:
            request.transport.abort()
    return response
