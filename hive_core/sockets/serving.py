"""What the two kinds of socket have in common: the OpenAPI document and the server's settings."""

from __future__ import annotations

import asyncio
import json
import logging

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from hive_core.api.dispatch import Frame
from hive_core.api.endpoint import Call, Endpoint
from hive_core.api.openapi import describe
from hive_core.protocol import MAX_REQUEST_BYTES

_SHUTDOWN_SECONDS = 10.0

# What aiohttp logs here is bytes of callers that are no HTTP, a traceback each time; the frame logs failures of ours.
_garbage = logging.getLogger("hive_core.api.garbage")
_garbage.disabled = True


def with_document(title: str, endpoints: list[Endpoint]) -> list[Endpoint]:
    """`endpoints` and the one that describes them all, itself included."""
    complete = list(endpoints)
    made: list[bytes] = []

    async def document(_: Call) -> web.StreamResponse:
        if not made:  # Not before somebody asks: a start should not wait for it.
            made.append(json.dumps(describe(title, complete)).encode())
        return web.Response(body=made[0], content_type="application/json")

    complete.append(Endpoint("GET", "/v1/openapi.json", "This document", document, "application/json"))
    return complete


def make_runner(frame: Frame) -> web.ServerRunner:
    """A runner that gives up a handler when its caller hangs up, and waits for the others when it stops.

    On aiohttp's low-level server: its applications, with their routes, middlewares and signals, cost a send as much
    again as all the rest of it.
    """
    server = web.Server(
        frame.answer,
        request_factory=_request,
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,  # No caller of ours compresses, and a compressed body is no JSON.
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
