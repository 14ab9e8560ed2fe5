"""The relay's end of the link to the daemon, which is connected again whenever it breaks."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from hive_core import __version__
from hive_core.infra.concurrency.closing import close_apart
from hive_core.infra.packets import PacketConnection, PacketRefused
from hive_core.protocol.models.link import (
    DaemonPacket,
    RelayAnswer,
    RelayHello,
    RelayPacket,
    RelayReserve,
    RelaySettle,
    read_daemon_packet,
)
from hive_core.services.following import follow_daemon

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 0.05
_ANSWER_SECONDS = 15.0
"""Longest that a call waits for its reservation, also while the daemon is restarted."""
Receiver = Callable[[DaemonPacket, int | None], Awaitable[None]]


class LinkDown(Exception):
    """The daemon does not answer."""


class DaemonLink:
    """Requests to the daemon, and what it sends.

    Settlements that the daemon has not confirmed are kept, and sent again after each connect.
    """

    def __init__(self, path: Path, receive: Receiver, connected: Callable[[], None]) -> None:
        """`receive` gets each packet with its descriptor, which it has to close; `connected` is called before them."""
        self._path = path
        self._receive = receive
        self._connected = connected
        self.instance = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._connection: PacketConnection | None = None
        self._up = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[RelayAnswer]] = {}
        self._unsettled: dict[int, RelaySettle] = {}
        self._settled = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def is_up(self) -> bool:
        """Return True while the daemon is connected."""
        return self._connection is not None

    @property
    def unsettled(self) -> int:
        """The number of settlements that the daemon has not confirmed."""
        return len(self._unsettled)

    def new_call(self) -> str:
        """Return an identifier for a call that no other has."""
        return f"{self.instance}-{next(self._numbers)}"

    async def reserve(self, request: RelayReserve) -> RelayAnswer:
        """Ask for the money of a call. Raises `LinkDown`; the call must then be settled as not sent."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                while True:
                    await self._up.wait()
                    try:
                        return await self._ask(request)
                    except ConnectionError:
                        # The daemon answers the same request again without a second reserve.
                        await asyncio.sleep(_PAUSE_SECONDS)
        except TimeoutError:
            raise LinkDown from None

    async def _ask(self, request: RelayReserve) -> RelayAnswer:
        number = next(self._numbers)
        answer: asyncio.Future[RelayAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await self._send(request.model_copy(update={"id": number}))
            return await answer
        finally:
            del self._waiting[number]

    def settle(self, end: RelaySettle) -> None:
        """Tell the daemon of the end of a call, now or when it is back."""
        number = next(self._numbers)
        self._unsettled[number] = end.model_copy(update={"id": number})
        self._settled.clear()
        self._start(self._send_settlement(number))

    async def flush(self, seconds: float) -> None:
        """Wait until the daemon has confirmed all settlements, at most for so long."""
        try:
            async with asyncio.timeout(seconds):
                while self._unsettled:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            log.warning("settlements are not confirmed", calls=len(self._unsettled))

    def tell(self, packet: RelayPacket) -> None:
        """Tell the daemon something, if it is there."""
        self._start(self._send_if_connected(packet))

    async def run(self) -> None:
        """Keep the link, until cancelled."""
        await follow_daemon(self._path, self._serve)

    async def _serve(self, connection: PacketConnection) -> None:
        self._connection = connection
        try:
            hello = RelayHello(instance=self.instance, version=__version__)
            await connection.send(hello.model_dump_json().encode())
            for end in list(self._unsettled.values()):
                await self._send(end)
            self._connected()
            self._up.set()
            while True:
                await self._take(connection)
        finally:
            self._disconnect()

    async def _take(self, connection: PacketConnection) -> None:
        try:
            data, descriptor = await connection.receive()
        except PacketRefused as why:
            log.error("a packet of the daemon was refused", reason=str(why))
            return
        try:
            packet = read_daemon_packet(data)
        except ValueError:
            log.error("a packet of the daemon cannot be read")
            if descriptor is not None:
                close_apart(descriptor)
            return
        if isinstance(packet, RelayAnswer):
            self._take_answer(packet)
        else:
            await self._receive(packet, descriptor)

    def _take_answer(self, answer: RelayAnswer) -> None:
        waiting = self._waiting.get(answer.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
        if self._unsettled.pop(answer.id, None) is not None and not self._unsettled:
            self._settled.set()

    def _start(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send_if_connected(self, packet: RelayPacket) -> None:
        with suppress(ConnectionError):
            await self._send(packet)

    async def _send_settlement(self, number: int) -> None:
        try:
            await self._send(self._unsettled[number])
        except (ConnectionError, KeyError):
            return  # It is sent after the next connect.

    async def _send(self, packet: RelayPacket) -> None:
        if self._connection is None:
            raise ConnectionResetError("the daemon is away")
        await self._connection.send(packet.model_dump_json().encode())

    def _disconnect(self) -> None:
        self._connection = None
        self._up.clear()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError("the daemon is away"))
