"""`host.sock` and the agents' `core.sock`."""

from __future__ import annotations

import asyncio
import functools
import grp
import json
import logging
import pwd
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from hive_core.api.browser_check import check_no_browser
from hive_core.api.dispatch import Dispatcher, LoadLimits, Router
from hive_core.api.endpoint import ApiCall, Caller, Endpoint, Refused, Timed
from hive_core.api.listener import Listener, peer
from hive_core.api.openapi import describe
from hive_core.errors import not_found
from hive_core.messaging import Directory
from hive_core.protocol import MAX_REQUEST_BYTES
from hive_core.protocol.names import OPERATOR

_CORE_CONNECTIONS = 32
"""Of one agent: its harness and some tools at a time, with requests of up to 2 MiB each."""


class CoreSockets:
    """One server for all agents. Only the socket of a connection identifies the agent."""

    def __init__(
        self,
        path_of: Callable[[str], Path],
        directory: Directory,
        refused: Refused,
        timed: Timed,
    ) -> None:
        self._path_of = path_of
        self._directory = directory
        self._refused = refused
        self._timed = timed
        self._runner: web.ServerRunner | None = None
        self._listeners: dict[str, Listener] = {}
        self._names: dict[str, str] = {}

    async def serve(self, endpoints: list[Endpoint]) -> None:
        """Start the server; call this before the first `open`."""
        router = Router(with_document("hyperhive, for agents", endpoints))
        self._runner = make_runner(Dispatcher(router, self._identify, self._refused, self._timed))
        await self._runner.setup()

    async def open(self, name: str) -> None:
        """Listen for the agent, unless that is so already. Raises `cannot_listen`; a later call tries again."""
        if self._runner is None:
            raise RuntimeError("serve comes first")
        if name in self._listeners:
            return
        path = self._path_of(name)
        self._names[str(path)] = name
        listener = Listener(self._runner, path, 0o600, connections=_CORE_CONNECTIONS)
        await listener.start()
        self._listeners[name] = listener

    async def close(self, name: str) -> None:
        """Stop listening for the agent and close its connections."""
        listener = self._listeners.pop(name, None)
        if listener is not None:
            listener.stop()
            listener.hang_up()
            del self._names[str(self._path_of(name))]

    async def close_all(self) -> None:
        """Stop listening for all agents, let requests under way finish, and close all connections."""
        for listener in self._listeners.values():
            listener.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    def _identify(self, request: web.BaseRequest) -> Caller:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the caller has hung up")
        # The address on which the kernel accepted the connection (getsockname(2)).
        name = self._names.get(transport.get_extra_info("sockname"))
        if name is None:
            raise not_found("unknown_agent", "this agent is gone", "it was destroyed")
        kind = self._directory.member(name).kind
        return Caller(name, kind, lambda: f"{kind}:{name}")


_HOST_CONNECTIONS = 256


def _operators_limits() -> LoadLimits:
    """Return the limits of `host.sock`, where the operator is the only caller, with many programs.

    Its requests wait for none of an agent's.
    """
    return LoadLimits(heavy=4, heavy_per_caller=4, waiting=64, following=64)


class HostSocket:
    """The operator's socket. Its mode and group protect it; the kernel names the user for the audit table."""

    def __init__(self, path: Path, group: str, endpoints: list[Endpoint], refused: Refused, timed: Timed) -> None:
        self._path = path
        self._mode, self._group = operators_access(group)
        router = Router(with_document("hyperhive, for the operator", endpoints))
        self._runner = make_runner(Dispatcher(router, _identify, refused, timed, check_no_browser, _operators_limits()))
        self._listener: Listener | None = None

    async def open(self) -> None:
        """Listen for the operator."""
        await self._runner.setup()
        self._listener = Listener(self._runner, self._path, self._mode, self._group, connections=_HOST_CONNECTIONS)
        await self._listener.start()

    async def close(self) -> None:
        """Stop listening, let requests under way finish, and close all connections."""
        if self._listener is not None:
            self._listener.stop()
        await self._runner.cleanup()


def _identify(request: web.BaseRequest) -> Caller:
    return Caller(OPERATOR, "operator", functools.partial(_actor, request))


def _actor(request: web.BaseRequest) -> str:
    try:
        _, user = peer(request)
    except ConnectionResetError:
        return OPERATOR  # Gone before its name was needed.
    return f"{OPERATOR}:{_user_name(user)}"


@functools.lru_cache(maxsize=64)
def _user_name(user: int) -> str:
    # Kept, since a look-up reads files and may ask a directory server.
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def operators_access(group: str) -> tuple[int, int | None]:
    """Return mode and group of sockets for the operator; without the group only the daemon's user may connect."""
    try:
        return 0o660, grp.getgrnam(group).gr_gid
    except KeyError:
        return 0o600, None


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

    complete.append(Endpoint("GET", "/v1/openapi.json", "This document", document, "application/json"))
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
