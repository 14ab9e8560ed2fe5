"""The daemon's end of the connection to a gateway: an unprivileged process between the agents and the world.

A gateway connects, and is told everything: each agent with what it may reach, and its listeners with their descriptors.
After that it is told what changes. It serves agents with what it knows while the daemon is away, and connects again.
"""

from __future__ import annotations

import asyncio
import grp
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from hive_core.infra.concurrency.closing import close_apart
from hive_core.infra.packets import PacketConnection, PacketRefused
from hive_core.infra.unix_sockets import bind

log = structlog.get_logger(__name__)

_BACKLOG = 4
_AGAIN_SECONDS = 1.0
_DESCRIPTION = "description"
_END = "end of connections"
_GONE = "gone"


@dataclass
class _Agent:
    """The facts that a gateway has to know of an agent; listeners by their purposes."""

    description: bytes
    listeners: dict[str, tuple[bytes, socket.socket]] = field(default_factory=dict)


def listen_for_gateway(path: Path, group: str) -> socket.socket:
    """Return a listening socket for one gateway, to which `group` may connect if this host has it.

    Raises `cannot_listen`.
    """
    try:
        mode, number = 0o660, grp.getgrnam(group).gr_gid
    except KeyError:
        mode, number = 0o600, None
    listener = bind(path, mode, number, socket.SOCK_SEQPACKET)
    listener.listen(_BACKLOG)
    return listener


class GatewayLink:
    """The connection to one gateway, which is there or not; used on one event loop."""

    def __init__(
        self,
        listener: socket.socket,
        synced: bytes,
        handle: Callable[[bytes], Awaitable[None]],
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        """Accept a gateway on `listener`, of SOCK_SEQPACKET; takes it over.

        `synced` is the packet after everything was told, and `handle` is called with each packet of the gateway, in
        order. A ValueError that it raises ends the connection: a gateway that does not keep to the protocol. `gone` is
        called when a connection has ended.
        """
        self.connected = asyncio.Event()
        """Set while there is a gateway that was told everything."""
        self._listener = listener
        self._synced = synced
        self._handle = handle
        self._gone = gone
        self._agents: dict[str, _Agent] = {}
        self._first: tuple[bytes, ...] = ()
        self._connection: PacketConnection | None = None
        self._waiting: dict[tuple[str, str], tuple[bytes, socket.socket | None]] = {}
        self._has_waiting = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """True while there is a gateway that was told everything."""
        return self.connected.is_set()

    def describe(self, name: str, packet: bytes) -> None:
        """Tell what an agent may do from now on; the packet replaces the last one."""
        if name in self._agents:
            self._agents[name].description = packet
        else:
            self._agents[name] = _Agent(packet)
        self._tell(name, _DESCRIPTION, packet)

    def give(self, name: str, purpose: str, packet: bytes, listener: socket.socket) -> None:
        """Give a listener of an agent that was described, instead of the last one for its purpose; takes it over."""
        listeners = self._agents[name].listeners
        if purpose in listeners:
            close_apart(listeners[purpose][1].detach())
        listeners[purpose] = packet, listener
        self._tell(name, f"listener {purpose}", packet, listener)

    def drop_listeners(self, name: str, is_wanted: Callable[[str, socket.socket], bool]) -> None:
        """Close the listeners of an agent that are not wanted, by purpose; the gateway knows by the description."""
        agent = self._agents.get(name)
        if agent is None:
            return
        for purpose, (_, listener) in list(agent.listeners.items()):
            if not is_wanted(purpose, listener):
                del agent.listeners[purpose]
                self._waiting.pop((name, f"listener {purpose}"), None)
                close_apart(listener.detach())

    def end_connections(self, name: str, packet: bytes) -> None:
        """Ask for the end of open connections of an agent, after all that it was told of before."""
        self._waiting.pop((name, _END), None)  # Its place would be before what has changed since.
        self._tell(name, _END, packet)

    def forget(self, name: str, packet: bytes) -> None:
        """Tell that an agent is gone, if it was described."""
        agent = self._agents.pop(name, None)
        if agent is None:
            return
        for key in [key for key in self._waiting if key[0] == name]:
            del self._waiting[key]
        for _, listener in agent.listeners.values():
            close_apart(listener.detach())
        self._tell(name, _GONE, packet)

    def tell_first(self, packets: Sequence[bytes]) -> None:
        """Tell what comes before all agents; the packets replace the last ones."""
        self._first = tuple(packets)
        for number, packet in enumerate(packets):
            self._tell("", f"first {number}", packet)

    @property
    def reply(self) -> Callable[[bytes], Awaitable[None]]:
        """The function that answers the gateway whose packet is being handled, and no later one.

        It raises ConnectionError if that gateway is gone.
        """
        if self._connection is None:
            raise ConnectionResetError("the gateway is gone")
        return self._connection.send

    async def run(self) -> None:
        """Serve one gateway after another, until it is cancelled."""
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        serving: asyncio.Task[None] | None = None
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(self._listener)
                except OSError as error:  # There is no descriptor left.
                    log.error("a gateway cannot be accepted now", why=str(error))
                    await asyncio.sleep(_AGAIN_SECONDS)
                    continue
                if serving is not None:
                    # The last gateway was killed, or is about to end: the new one was started in its place.
                    serving.cancel()
                    await asyncio.wait([serving])
                serving = asyncio.create_task(self._serve(PacketConnection(connection)))
        finally:
            if serving is not None:
                serving.cancel()
                await asyncio.wait([serving])
            self._listener.close()
            for name in list(self._agents):
                self.forget(name, b"")

    async def _serve(self, connection: PacketConnection) -> None:
        self._connection = connection
        self._waiting.clear()
        self._tell_everything()
        telling = asyncio.create_task(self._send(connection))
        try:
            while True:
                with suppress(PacketRefused):  # Of a gateway, that is a fault of its own; the next packet is fine.
                    data, descriptor = await connection.receive()
                    if descriptor is not None:
                        os.close(descriptor)
                    await self._handle(data)
        except ConnectionError:
            log.warning("a gateway is gone; agents reach nothing new through it until it is back")
        except ValueError as error:
            log.error("a gateway does not keep to the protocol", why=str(error))
        finally:
            self.connected.clear()
            self._connection = None
            telling.cancel()
            connection.close()
            self._gone()

    def _tell_everything(self) -> None:
        self.tell_first(self._first)
        for name, agent in self._agents.items():
            self._tell(name, _DESCRIPTION, agent.description)
            for purpose, (packet, listener) in agent.listeners.items():
                self._tell(name, f"listener {purpose}", packet, listener)
        self._tell("", "synced", self._synced)

    def _tell(self, name: str, what: str, packet: bytes, listener: socket.socket | None = None) -> None:
        """Send a packet soon; one that says the same of the same agent, and has not been sent yet, is left out."""
        if self._connection is not None:
            self._waiting[name, what] = packet, listener
            self._has_waiting.set()

    async def _send(self, connection: PacketConnection) -> None:
        """Send what waits. Whatever ends this ends the connection: a gateway that is told no more must not go on."""
        try:
            while True:
                await self._has_waiting.wait()
                while self._waiting:
                    key = next(iter(self._waiting))
                    packet, listener = self._waiting.pop(key)
                    if listener is None:
                        await connection.send(packet)
                    else:
                        await self._send_listener(connection, key, packet, listener)
                    if key == ("", "synced"):
                        self.connected.set()
                self._has_waiting.clear()
        except ConnectionError:
            pass
        except (OSError, ValueError) as error:
            log.error("a gateway cannot be told of changes, its connection is ended", why=str(error))
        finally:
            connection.close()

    async def _send_listener(
        self, connection: PacketConnection, key: tuple[str, str], packet: bytes, listener: socket.socket
    ) -> None:
        """Send a listener; where the kernel has no room for it now, others go on, and it is tried again."""
        kept = -1
        try:
            # While this waits, the listener may be closed, and its number be that of something else.
            kept = os.dup(listener.fileno())
            await connection.send(packet, kept)
        except ConnectionError:
            raise
        except OSError as error:
            log.warning("a listener cannot be given to a gateway now", agent=key[0], why=str(error))
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._send_again, connection, key, packet, listener)
        finally:
            if kept >= 0:
                close_apart(kept)

    def _send_again(
        self, connection: PacketConnection, key: tuple[str, str], packet: bytes, listener: socket.socket
    ) -> None:
        if self._connection is connection and listener.fileno() >= 0 and key not in self._waiting:
            self._tell(*key, packet, listener)
