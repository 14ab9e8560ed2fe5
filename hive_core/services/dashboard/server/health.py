"""`/healthz` for everybody, and `/metrics` for the API tokens of admins."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import HiveConnection, path_of
from hive_core.services.dashboard.server.connections import Connections

_SECONDS = 5.0


class OpenStreams(Protocol):
    """Interface to the live parts, as far as this module needs it."""

    @property
    def windows(self) -> int:
        """The number of windows that are kept up to date."""

    @property
    def sessions(self) -> int:
        """The number of sessions that have such windows."""


class HealthPages:
    """Answers about the dashboard itself."""

    def __init__(self, connection: HiveConnection, connections: Connections, streams: OpenStreams) -> None:
        self._connection = connection
        self._connections = connections
        self._streams = streams

    async def health(self, _: web.Request) -> web.StreamResponse:
        """Answer if pages can be served, with status 503 and the reason if they cannot."""
        problem = await self._problem()
        status = HTTPStatus.OK if not problem else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response({"role": "dashboard", "ready": not problem, "problem": problem}, status=status)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Answer with figures for Prometheus."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token.startswith("ht_"):
            hint = "send the header Authorization: Bearer ht_... with an API token of an admin"
            raise HiveError("not_signed_in", "the metrics want an API token", hint=hint, status=401)
        me = await self._connection.client(token).get(path_of("me"))
        if me["role"] != "admin":
            why = "the metrics are for admins"
            raise HiveError("not_permitted", why, hint="use an API token of an admin", status=HTTPStatus.FORBIDDEN)
        # Imported here: few ask, and the library takes memory.
        from hive_core.services.dashboard.server.figures import exposition  # noqa: PLC0415

        figures = exposition(self._connections, self._streams)
        return web.Response(body=figures, content_type="text/plain", charset="utf-8")

    async def _problem(self) -> str:
        try:
            async with asyncio.timeout(_SECONDS):
                await self._connection.client(None).get("/healthz")
        except HiveError as error:
            return error.message
        except TimeoutError:
            return f"the daemon of this hive does not answer within {_SECONDS:.0f} seconds"
        return ""
