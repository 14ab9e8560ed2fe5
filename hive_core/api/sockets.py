"""`core.sock`: one for each agent, and whoever speaks on it is that agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from hive_core.api.dispatch import Frame
from hive_core.api.endpoint import Caller, Endpoint, Refused, Timed
from hive_core.api.listener import Listener
from hive_core.errors import not_found
from hive_core.messaging import Directory
from hive_core.sockets.routing import Router
from hive_core.sockets.serving import make_runner, with_document

_CONNECTIONS = 32
"""Of one agent: its harness and some tools at a time, with requests of up to 2 MiB each."""


class CoreSockets:
    """One server for all agents. Which socket a connection came in on says whose it is; nothing else does."""

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
        """Be ready to listen for agents; before the first `open`."""
        router = Router(with_document("hyperhive, for agents", endpoints))
        self._runner = make_runner(Frame(router, self._identify, self._refused, self._timed))
        await self._runner.setup()

    async def open(self, name: str) -> None:
        """Listen for the agent."""
        if self._runner is None:
            raise RuntimeError("serve comes first")
        path = self._path_of(name)
        self._names[str(path)] = name
        self._listeners[name] = listener = Listener(self._runner, path, 0o600, connections=_CONNECTIONS)
        await listener.start()

    async def close(self, name: str) -> None:
        """Stop listening for the agent and hang up."""
        listener = self._listeners.pop(name, None)
        if listener is not None:
            listener.stop()
            listener.hang_up()
            del self._names[str(self._path_of(name))]

    async def close_all(self) -> None:
        """Stop listening for everybody, let requests under way finish, hang up."""
        for listener in self._listeners.values():
            listener.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    def _identify(self, request: web.BaseRequest) -> Caller:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the caller has hung up")
        # The kernel's own word for the address that the connection was accepted on (getsockname(2)).
        name = self._names.get(transport.get_extra_info("sockname"))
        if name is None:
            raise not_found("unknown_agent", "this agent is gone", "it was destroyed")
        kind = self._directory.member(name).kind
        return Caller(name, kind, lambda: f"{kind}:{name}")
