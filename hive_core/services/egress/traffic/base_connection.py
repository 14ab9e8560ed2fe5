"""A connection of an agent, as far as it does not matter what it is for: its time, its end, and the bytes on it."""

from __future__ import annotations

import asyncio
import math
import socket
from abc import ABC, abstractmethod
from typing import ClassVar

import structlog

from hive_core.services.egress.agent import EgressAgent
from hive_core.services.egress.traffic.forward import Exchange
from hive_core.services.egress.traffic.tunnel import Tunnel

log = structlog.get_logger(__name__)

_PIECE = 16 * 1024


class EgressConnection(ABC):
    """A connection from an agent, and the one outside of it that it led to."""

    ends_with_policy: ClassVar[bool]
    """True if it ends as soon as the policy does not allow it; others go on until the daemon ends connections."""

    def __init__(self, agent: EgressAgent, client: socket.socket, seconds: float) -> None:
        """Serve a connection, which is taken over; its first phase may last for some seconds."""
        self._agent = agent
        self._client = client
        self._server: socket.socket | None = None
        self._traffic: Tunnel | Exchange | None = None
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._phase_end = self._begun + seconds
        agent.connections.add(self)
        self._task = self._loop.create_task(self._run())

    @abstractmethod
    def is_decided(self) -> bool:
        """Return True once it is known where the connection leads."""

    @abstractmethod
    def is_allowed(self) -> bool:
        """Return True if the policy allows what the connection leads to, or that is not known yet."""

    @abstractmethod
    async def _serve(self) -> None:
        """Do all that the connection is for. OSError ends it."""

    def abort(self) -> None:
        """End the connection at once."""
        self._task.cancel()

    def is_late(self, now: float) -> bool:
        """Return True if the connection has had its time: that of its phase, in all, or without a byte."""
        limits = self._agent.decider.limits
        if now > min(self._phase_end, self._begun + limits.total_seconds):
            return True
        return self._traffic is not None and now > self._traffic.last_byte + limits.idle_seconds

    async def _run(self) -> None:
        try:
            await self._serve()
        except (OSError, asyncio.CancelledError):  # One of the ends has hung up, or the time is over.
            pass
        except Exception:
            log.exception("connection failed", agent=self._agent.name)
        finally:
            self._client.close()
            if self._server is not None:
                self._server.close()
            self._agent.connections.discard(self)

    async def _pass(self, data: bytes = b"") -> None:
        """Pass bytes on in both directions until both ends have ended."""
        assert self._server is not None
        if data:
            await self._loop.sock_sendall(self._server, data)
        tunnel = Tunnel(self._client, self._server, self._agent.count_sent, self._agent.count_received)
        self._traffic = tunnel
        self._phase_end = math.inf
        await tunnel.run()

    async def _receive(self) -> bytes:
        try:
            piece = self._client.recv(_PIECE)  # It is often there already, and waiting for an event costs more.
        except BlockingIOError:
            piece = await self._loop.sock_recv(self._client, _PIECE)
        self._agent.count_sent(len(piece))
        return piece
