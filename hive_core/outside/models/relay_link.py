"""The daemon's end of the link to the relay, which is told of providers and agents, and asks the ledger."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping

import structlog
from pydantic import BaseModel

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import BackgroundTasks
from hive_core.outside.gateway_link import GatewayLink
from hive_core.outside.handed_sockets import ExpectedListener
from hive_core.outside.handover_door import HandedListener
from hive_core.outside.models.access import find_access
from hive_core.outside.models.ledger import Ledger, LedgerNotice
from hive_core.protocol import AgentConfig
from hive_core.protocol.models.link import (
    RelayAgent,
    RelayAnswer,
    RelayEndConnections,
    RelayGone,
    RelayHello,
    RelayListener,
    RelayListenerLost,
    RelayPacket,
    RelayProvider,
    RelayReserve,
    RelaySettle,
    RelaySynced,
    read_relay_packet,
)
from hive_core.protocol.models.providers import ProviderAccess, ProviderSettings

log = structlog.get_logger(__name__)

RELAY_GROUP = "hyperhive-relay"
"""The group of the relay's user, which may connect to the daemon's socket for it."""
RELAY = "relay"
RELAY_PORT = 3129
"""The port of the relay on the loopback of every sealed agent."""
_AGAIN_SECONDS = 1.0
_MOST_REQUESTS = 10_000
"""Requests of the relay under way; it has a bound for each agent, and one that ignores it is not read any further."""


class RelayLink:
    """The facts that the relay is told, as the configurations of agents are now, and its requests to the ledger."""

    def __init__(
        self,
        listener: socket.socket,
        ledger: Ledger,
        providers: Mapping[str, ProviderSettings],
        config_of: Callable[[str], AgentConfig | None],
        turn_of: Callable[[str], str] = lambda _: "",
    ) -> None:
        """Accept the relay on `listener`; takes it over.

        `config_of` returns the active configuration of an agent; `turn_of` names the turn that an agent is at.
        """
        self.is_wanted = asyncio.Event()
        """Set when there is an agent with a provider: without one nobody needs the relay."""
        self.on_listener_lost: Callable[[str], None] = lambda _: None
        """Called with an agent whose listener accepts nothing any more."""
        self.on_notice: Callable[[LedgerNotice], None] = lambda _: None
        """Called with what the operator has to be told."""
        self._ledger = ledger
        self._providers = providers
        self._config_of = config_of
        self._turn_of = turn_of
        self._known: dict[str, ProviderAccess] = {}
        self._instance = ""
        self._tasks = BackgroundTasks()
        self._room = asyncio.Semaphore(_MOST_REQUESTS)
        self._link = GatewayLink(listener, _packet(RelaySynced()), self._hear)
        self._link.tell_first([_packet(_describe(name, provider)) for name, provider in providers.items()])

    @property
    def is_connected(self) -> bool:
        """True while the relay is there."""
        return self._link.is_connected

    def hold(self, name: str) -> None:
        """Have the relay serve an agent if its configuration names a provider, and not otherwise."""
        access = self._find_access(name)
        if access is None:
            self.release(name)
            return
        changed = self._known.get(name, access) != access
        self._known[name] = access
        self.is_wanted.set()
        self._link.describe(name, _packet(RelayAgent(name=name, access=[access])))
        if changed:
            self._link.end_connections(name, _packet(RelayEndConnections(name=name)))

    def release(self, name: str) -> None:
        """Have the relay end all that it does for an agent."""
        if self._known.pop(name, None) is not None:
            self._link.forget(name, _packet(RelayGone(name=name)))

    def stopped(self, name: str) -> None:
        """Have the relay end an agent's calls, and serve it again only on a listener of its next harness."""
        if name in self._known:
            self.release(name)
            self.hold(name)
            self.on_listener_lost(name)  # The next one may have handed its listener over before this was told.

    def listeners(self, name: str) -> Mapping[str, ExpectedListener]:
        """Return the listener of an agent that is served."""
        config = self._config_of(name) if name in self._known else None
        if config is None:
            return {}
        is_sealed = config.network == "sealed"
        return {RELAY: ExpectedListener(RELAY_PORT) if is_sealed else ExpectedListener(0, of_host=True)}

    def receive(self, name: str, handed: HandedListener) -> None:
        """Have the relay accept connections on a listener of an agent."""
        self._link.give(name, RELAY, _packet(RelayListener(name=name, key=handed.key)), handed.listener)

    async def run(self) -> None:
        """Serve the relay until cancelled. What is not stored by then is given up: the relay tells it again."""
        try:
            await self._link.run()
        finally:
            await self._tasks.close()

    def _find_access(self, name: str) -> ProviderAccess | None:
        config = self._config_of(name)
        try:
            return None if config is None else find_access(config, self._providers)
        except HiveError as error:
            log.warning("an agent has no provider any more", agent=name, code=error.code, error=error.message)
            return None

    async def _hear(self, packet: bytes) -> None:
        """Carry out what the relay asks for. Raises ValueError for a packet that is none."""
        heard = read_relay_packet(packet)
        match heard:
            case RelayHello(instance=instance):
                self._instance = instance
                if lost := await self._ledger.open_relay(instance):
                    log.warning("calls of an earlier relay are counted as spent", calls=lost)
            case RelayListenerLost(name=name):
                self.on_listener_lost(name)
            case _:
                if not self._instance:
                    raise ValueError("the relay has not said who it is")
                await self._room.acquire()
                self._tasks.start(self._answer(heard, self._link.reply), name="answer the relay")

    async def _answer(self, packet: RelayPacket, reply: Callable[[bytes], Awaitable[None]]) -> None:
        try:
            answer, notices = await self._carry_out(packet)
            for notice in notices:
                self.on_notice(notice)
            if answer is not None:
                await reply(_packet(answer))
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


def _describe(name: str, provider: ProviderSettings) -> RelayProvider:
    return RelayProvider(
        name=name,
        api=provider.api,
        base_url=provider.address,
        keys=provider.keys,
        fields=provider.fields,
        max_output_tokens=provider.max_output_tokens,
        calls_at_once=provider.calls_at_once,
    )


def _packet(packet: BaseModel) -> bytes:
    return packet.model_dump_json().encode()
