"""What the two kinds of socket have in common: the OpenAPI document and the runner's settings."""

from __future__ import annotations

from aiohttp import web

from hive_core.sockets.endpoint import Call, Endpoint
from hive_core.sockets.openapi import describe

_SHUTDOWN_SECONDS = 10.0


def with_document(title: str, endpoints: list[Endpoint]) -> list[Endpoint]:
    """`endpoints` and the one that describes them all, itself included."""
    complete = list(endpoints)

    async def document(_: Call) -> web.StreamResponse:
        return web.json_response(describe(title, complete))

    complete.append(Endpoint("GET", "/v1/openapi.json", "This document", document, "application/json"))
    return complete


def make_runner(application: web.Application) -> web.AppRunner:
    """A runner that gives up a handler when its caller hangs up, and waits for the others when it stops."""
    return web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS)
