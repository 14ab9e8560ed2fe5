"""The relay as a whole: it does what the daemon sends, and serves each agent on its listening socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from hive_core.infra.concurrency.closing import close_apart
from hive_core.infra.foreign_listener import ForeignListener
from hive_core.protocol.models.link import (
    DaemonPacket,
    RelayAgent,
    RelayAnswer,
    RelayEndConnections,
    RelayGone,
    RelayListener,
    RelayListenerLost,
    RelayProvider,
    RelaySynced,
)
from hive_core.services.listeners import BadListener, check_listener
from hive_core.services.relay.agent_server import RelayAgentServer
from hive_core.services.relay.call import CallContext
from hive_core.services.relay.keys import KeyDirectory
from hive_core.services.relay.link import DaemonLink
from hive_core.services.relay.policy import RelayPolicy
from hive_core.services.relay.room import RequestRoom
from hive_core.services.relay.status import RelayMetrics

log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 30.0
_SILENT_SECONDS = 600.0
"""Longest time in which a vendor may say nothing."""
_KEEP_SECONDS = 15.0
"""Time for which an idle connection to a vendor is kept; they close theirs later."""
_MOST_BYTES = 256 * 1024 * 1024
"""Of all requests under way."""


class RelayGateway:
    """Agents with their listeners, and the connections to vendors."""

    def __init__(self, socket_path: Path, credentials: KeyDirectory | None) -> None:
        self.policy = RelayPolicy(credentials)
        self.metrics = RelayMetrics()
        self.link = DaemonLink(socket_path, self.receive, self._begin)
        self._session: aiohttp.ClientSession | None = None
        self._context: CallContext | None = None
        self._agents: dict[str, RelayAgentServer] = {}
        self._runners: dict[str, web.ServerRunner] = {}
        self._listeners: dict[str, ForeignListener] = {}
        self._given: set[str] = set()
        """Agents whose listeners the daemon has given since it is connected."""
        self._accepting: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self.metrics.add_gauge("hive_relay_calls_under_way", "Calls under way.", lambda: self.calls)
        self.metrics.add_gauge("hive_relay_unsettled", "Ends of calls not confirmed.", lambda: self.link.unsettled)

    @property
    def calls(self) -> int:
        """The number of calls under way."""
        return sum(agent.calls for agent in self._agents.values())

    async def open(self) -> None:
        """Open what the calls share."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            skip_auto_headers=("User-Agent",),
        )
        self._context = CallContext(self.link, self._session, self.metrics, RequestRoom(_MOST_BYTES))

    async def receive(self, packet: DaemonPacket, descriptor: int | None) -> None:
        """Do what the daemon has sent."""
        if descriptor is not None and not isinstance(packet, RelayListener):
            close_apart(descriptor)
        match packet:
            case RelayProvider():
                self.policy.put_provider(packet)
            case RelayAgent():
                self.policy.put_agent(packet)
            case RelayListener():
                await self._listen(packet, descriptor)
            case RelayGone():
                self.policy.remove_agent(packet.name)
                self._stop_agent(packet.name)
            case RelayEndConnections():
                if packet.name in self._agents:
                    self._agents[packet.name].end_calls()
            case RelaySynced():
                for name in self.policy.finish():
                    self._stop_agent(name)
                self._leave_others()
            case RelayAnswer():
                pass  # The link has taken it.

    async def close(self, seconds: float) -> None:
        """Accept no more, let calls end by themselves for so long, end the rest, and settle all of them.

        Further callers wait for the relay that is started next.
        """
        listeners = list(self._listeners.values())
        self._listeners.clear()
        await asyncio.gather(*(listener.leave() for listener in listeners))
        idle = [asyncio.create_task(agent.idle.wait()) for agent in self._agents.values()]
        if idle:
            _, busy = await asyncio.wait(idle, timeout=seconds)
            for task in busy:
                task.cancel()
        for agent in self._agents.values():
            agent.end_calls()
        for name in list(self._agents):
            self._stop_agent(name)
        if self._closing:
            await asyncio.wait(self._closing, timeout=5)
        await self.link.flush(5.0)
        if self._session is not None:
            await self._session.close()

    def _begin(self) -> None:
        self.policy.begin()
        self._given.clear()

    def _leave_others(self) -> None:
        """Accept nothing more on listeners that the daemon has not given.

        Their agents may have stopped while it was away, and the key of one be anybody's. A harness that runs hands its
        listener over again, and callers wait for that.
        """
        for name in self._listeners.keys() - self._given:
            self._close_in_background(self._listeners.pop(name).leave())

    def _close_in_background(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _listen(self, packet: RelayListener, descriptor: int | None) -> None:
        """Serve an agent on a listening socket, in place of its last one."""
        if descriptor is None or self._context is None:
            log.warning("a listener came without its descriptor", agent=packet.name)
            return
        try:
            listener = check_listener(descriptor, speaks_first=True)
        except BadListener as why:
            self._tell_lost(packet.name, str(why))
            return
        agent = self._agents.get(packet.name)
        if agent is None:
            agent = self._agents[packet.name] = RelayAgentServer(packet.name, self.policy, self._context)
        agent.key = packet.key
        self._given.add(packet.name)
        runner = self._runners.get(packet.name)
        if runner is None:
            runner = self._runners[packet.name] = web.ServerRunner(agent.server, shutdown_timeout=2.0)
            await runner.setup()
        last = self._listeners.get(packet.name)
        if last is not None:
            if last.is_same(listener):  # A daemon that was started again tells what the last one had told.
                close_apart(listener.detach())
                return
            last.close()
        self._listeners[packet.name] = ForeignListener(
            listener, partial(self._accept, runner), partial(self._lose, packet.name)
        )

    def _accept(self, runner: web.ServerRunner, connection: socket.socket) -> None:
        if runner.server is None:  # The agent is gone.
            connection.close()
            return
        task = asyncio.create_task(_serve(runner.server, connection))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    def _lose(self, name: str) -> None:
        self._listeners.pop(name, None)
        self._tell_lost(name, "the agent has made it unusable")

    def _tell_lost(self, name: str, why: str) -> None:
        log.warning("listener lost", agent=name, why=why)
        self.link.tell(RelayListenerLost(name=name))

    def _stop_agent(self, name: str) -> None:
        agent, runner = self._agents.pop(name, None), self._runners.pop(name, None)
        listener = self._listeners.pop(name, None)
        if listener is not None:
            listener.close()
        if agent is not None:
            agent.end_calls()
        if runner is not None:
            self._close_in_background(runner.cleanup())


async def _serve(server: web.Server, connection: socket.socket) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(server, connection)
    except OSError:  # The caller has hung up.
        connection.close()
