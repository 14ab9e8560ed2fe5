"""The daemon's end of the link to the relay, which is told of providers and agents, and asks the ledger."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

import structlog
from pydantic import BaseModel

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import BackgroundTasks
from hive_core.infra.packets import PacketConnection, PacketRefused
from hive_core.outside.models.ledger import Ledger, LedgerNotice
from hive_core.protocol.models.link import (
    RelayAgent,
    RelayAnswer,
    RelayEndConnections,
    RelayGone,
    RelayHello,
    RelayListener,
    RelayPacket,
    RelayProvider,
    RelayReserve,
    RelaySettle,
    RelaySynced,
    read_relay_packet,
)
from hive_core.protocol.models.providers import ProviderAccess, ProviderSettings

log = structlog.get_logger(__name__)

_AGAIN_SECONDS = 1.0
_MOST_REQUESTS = 10_000
"""Requests of the relay under way; it has a bound for each agent, and one that ignores it is not read any further."""


class RelayLink:
    """The facts that the relay is told, and one connection to it at a time: a new one takes the place of the last.

    Methods that tell of changes may be called at any time; a relay that connects later is told everything.
    """

    def __init__(
        self,
        ledger: Ledger,
        providers: Mapping[str, ProviderSettings],
        notify: Callable[[LedgerNotice], None],
        turn_of: Callable[[str], str] = lambda _: "",
    ) -> None:
        """`notify` tells the operator of a notice; `turn_of` names the turn that an agent is at."""
        self._ledger = ledger
        self._providers = providers
        self._notify = notify
        self._turn_of = turn_of
        self._agents: dict[str, RelayAgent] = {}
        self._listeners: dict[str, tuple[socket.socket, str]] = {}
        self._connection: PacketConnection | None = None
        self._instance = ""
        self._tasks = BackgroundTasks()
        self._room = asyncio.Semaphore(_MOST_REQUESTS)

    @property
    def is_up(self) -> bool:
        """Return True while a relay is connected."""
        return self._connection is not None

    async def put_agent(self, name: str, access: list[ProviderAccess]) -> None:
        """Tell what an agent may use, in place of what was told before."""
        self._agents[name] = RelayAgent(name=name, access=access)
        await self._tell(self._agents[name])

    async def put_listener(self, name: str, listener: socket.socket, key: str = "") -> None:
        """Hand over a listening socket of an agent, which this object keeps and closes."""
        before = self._listeners.pop(name, None)
        if before is not None:
            before[0].close()
        self._listeners[name] = (listener, key)
        await self._tell(RelayListener(name=name, key=key), listener)

    async def remove_agent(self, name: str) -> None:
        """Tell that an agent is gone: its calls end."""
        self._agents.pop(name, None)
        before = self._listeners.pop(name, None)
        if before is not None:
            before[0].close()
        await self._tell(RelayGone(name=name))

    async def end_calls(self, name: str) -> None:
        """End the calls of an agent that are under way."""
        await self._tell(RelayEndConnections(name=name))

    async def serve(self, connection: PacketConnection) -> None:
        """Serve a relay that has connected, until it hangs up."""
        if self._connection is not None:
            self._connection.close()
        self._connection = connection
        try:
            await self._greet(connection)
            while True:
                packet = await self._read(connection)
                await self._room.acquire()
                self._tasks.start(self._answer(connection, packet), name="answer the relay")
        except ConnectionError:
            log.info("the relay is away")
        finally:
            connection.close()
            if self._connection is connection:
                self._connection = None

    async def close(self) -> None:
        """Close the connection and all listeners, and give up what is not stored yet: the relay tells it again."""
        await self._tasks.close()
        if self._connection is not None:
            self._connection.close()
        for listener, _ in self._listeners.values():
            listener.close()
        self._listeners.clear()

    async def _greet(self, connection: PacketConnection) -> None:
        """Hear who the relay is, settle what an earlier one has left, and tell everything."""
        hello = await self._read(connection)
        if not isinstance(hello, RelayHello):
            raise ConnectionAbortedError("the relay has not said who it is")
        self._instance = hello.instance
        lost = await self._ledger.open_relay(hello.instance)
        if lost:
            log.warning("calls of an earlier relay are counted as spent", calls=lost)
        for name, provider in self._providers.items():
            await self._send(
                connection,
                RelayProvider(
                    name=name,
                    api=provider.api,
                    base_url=provider.address,
                    keys=provider.keys,
                    fields=provider.fields,
                    max_output_tokens=provider.max_output_tokens,
                    calls_at_once=provider.calls_at_once,
                ),
            )
        for agent in list(self._agents.values()):
            await self._send(connection, agent)
        for name, (listener, key) in list(self._listeners.items()):
            await self._send(connection, RelayListener(name=name, key=key), listener)
        await self._send(connection, RelaySynced())

    async def _read(self, connection: PacketConnection) -> RelayPacket:
        while True:
            try:
                data, descriptor = await connection.receive()
                if descriptor is not None:
                    os.close(descriptor)
                return read_relay_packet(data)
            except (PacketRefused, ValueError) as error:
                log.warning("a packet of the relay was refused", reason=type(error).__name__)

    async def _answer(self, connection: PacketConnection, packet: RelayPacket) -> None:
        try:
            answer, notices = await self._carry_out(packet)
            for notice in notices:
                self._notify(notice)
            if answer is not None:
                await self._send(connection, answer)
        except ConnectionError:
            return  # The relay asks again, and settles again.
        finally:
            self._room.release()

    async def _carry_out(self, packet: RelayPacket) -> tuple[RelayAnswer | None, tuple[LedgerNotice, ...]]:
        if isinstance(packet, RelaySettle):
            notices = await self._settle(packet)
            return RelayAnswer(id=packet.id, granted=True), notices
        if not isinstance(packet, RelayReserve):
            return None, ()
        try:
            found = await self._ledger.reserve(packet, self._instance, self._turn_of(packet.agent))
        except HiveError as error:
            return RelayAnswer(id=packet.id, problem=error.message), ()
        answer = RelayAnswer(
            id=packet.id,
            granted=found.granted,
            refusal=found.refusal,
            problem=found.stopped,
            stopped=bool(found.stopped),
        )
        return answer, found.notices

    async def _settle(self, end: RelaySettle) -> tuple[LedgerNotice, ...]:
        """Store the end of a call; what is spent must not be forgotten because the disk is full."""
        while True:
            try:
                return await self._ledger.settle(end)
            except HiveError as error:
                if error.code == "stopping":
                    raise ConnectionAbortedError from None
                log.warning("the end of a call is not stored yet", reason=error.code)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _tell(self, packet: BaseModel, listener: socket.socket | None = None) -> None:
        """Send a packet to the relay, if one is connected; one that connects later is told everything."""
        if self._connection is not None:
            try:
                await self._send(self._connection, packet, listener)
            except ConnectionError:
                return

    async def _send(
        self, connection: PacketConnection, packet: BaseModel, listener: socket.socket | None = None
    ) -> None:
        data = packet.model_dump_json().encode()
        await connection.send(data, None if listener is None else listener.fileno())
