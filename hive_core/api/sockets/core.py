"""The `core.sock` of each agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from hive_core.api.dispatch import Dispatcher, Router
from hive_core.api.endpoint import Caller, Endpoint, Refused, Timed
from hive_core.api.listener import Listener
from hive_core.api.sockets.runner import make_runner, with_document
from hive_core.errors import not_found
from hive_core.messaging import Directory

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
