"""The HTTP server of a socket, and the document of its endpoints."""

from __future__ import annotations

import asyncio
import json
import logging

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from hive_core.api.dispatch import Dispatcher
from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.openapi import describe
from hive_core.api.rules import PUBLIC
from hive_core.protocol import MAX_REQUEST_BYTES

_SHUTDOWN_SECONDS = 10.0

# aiohttp logs a traceback here for bytes that are no HTTP; failures of the daemon are logged by the dispatcher.
_garbage = logging.getLogger("hive_core.api.garbage")
_garbage.disabled = True


def with_document(title: str, endpoints: list[Endpoint]) -> list[Endpoint]:
    """Return `endpoints` and one more, which serves the OpenAPI document of them all."""
    complete = list(endpoints)
    made: list[bytes] = []

    async def document(_: ApiCall) -> web.StreamResponse:
        if not made:  # Made for the first request, so that the start does not wait for it.
            made.append(json.dumps(describe(title, complete)).encode())
        return web.Response(body=made[0], content_type="application/json")

    complete.append(Endpoint("GET", "/v1/openapi.json", "This document", document, "application/json", rule=PUBLIC))
    return complete


def make_runner(dispatcher: Dispatcher) -> web.ServerRunner:
    """Return a runner that cancels a handler when its caller hangs up, and waits for handlers when it stops.

    On aiohttp's low-level server: its applications, with their routes, middlewares and signals, cost a send as much
    again as all the rest of it.
    """
    server = web.Server(
        dispatcher.answer,
        request_factory=_request,
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,  # No client of the hive compresses, and a compressed body is no JSON.
        logger=_garbage,
    )
    return web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_REQUEST_BYTES)
