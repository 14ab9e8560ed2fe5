"""A D-Bus session to systemd that survives reconnects: calls wait for the next connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import structlog

from hive_core.errors import HiveError
from hive_core.infra.systemd.dbus import (
    SECONDS,
    BusConnection,
    BusError,
    ConnectionLost,
    GLibThread,
    ResultHandler,
    SignalHandler,
)

SYSTEMD = "org.freedesktop.systemd1"
ROOT = "/org/freedesktop/systemd1"
MANAGER = f"{SYSTEMD}.Manager"
_DBUS = "org.freedesktop.DBus"
AWAY = {f"{_DBUS}.Error.{name}" for name in ("NoReply", "ServiceUnknown", "NameHasNoOwner")}
"""Errors of the bus for calls while systemd is not connected to it."""
_CONNECT_SECONDS = 10.0
_JOIN_SECONDS = 5.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0

_log = structlog.get_logger(__name__)


class BusCall(Protocol):
    """A function that calls systemd as `BusConnection.call` does, at the object `path`."""

    async def __call__(
        self,
        path: str,
        method: str,
        signature: str = "()",
        *arguments: object,
        seconds: float = SECONDS,
        on_result: ResultHandler | None = None,
    ) -> Sequence[Any]: ...


class ReconnectingBus:
    """A client of systemd that reconnects automatically. Call `open` first.

    `signals` maps "interface.Member" to handlers. `on_connect` is awaited with each new connection after its signals
    were subscribed to, so that it can read what may have been missed. `wanted` are the properties that are read.
    """

    def __init__(
        self,
        address: str | None,
        wanted: Collection[str],
        signals: Mapping[str, SignalHandler],
        on_connect: Callable[[BusCall], Awaitable[None]],
    ) -> None:
        self._address = address
        self._wanted = wanted
        self._signals = signals
        self._on_connect = on_connect
        self._thread = GLibThread()
        self._connection: BusConnection | None = None
        self._current: BusCall | None = None
        self._usable = asyncio.Event()
        self._disconnected = asyncio.Event()
        self._reason = ""
        self._closed = False
        self._reconnecting: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect. Raises HiveError `no_dbus`, `no_systemd`."""
        try:
            await self._connect_first()
        except ConnectionLost as error:
            await self.close()
            raise no_dbus(str(error)) from None
        except (BusError, TimeoutError) as error:
            await self.close()
            raise HiveError(
                "no_systemd",
                f"systemd does not answer on the system's message bus: {str(error) or 'it takes too long'}",
                hint="the nixos runtime needs a host that was booted with systemd, and root",
                status=503,
            ) from None
        self._reconnecting = asyncio.create_task(self._reconnect())

    def number(self, value: int) -> object:
        """Convert a number to the D-Bus value of a property."""
        value_of_64_bits: object = self._thread.glib.Variant("t", value)
        return value_of_64_bits

    async def call(
        self,
        path: str,
        method: str,
        signature: str = "()",
        *arguments: object,
        seconds: float = SECONDS,
        on_result: ResultHandler | None = None,
    ) -> Sequence[Any]:
        """Call systemd, and repeat the call after a reconnect; only for calls that may be executed twice.

        Raises BusError, and HiveError `no_dbus`, `no_systemd` if there was no answer for `seconds`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._usable.wait()
            if loop.time() >= deadline:
                raise no_dbus(self._reason)
            call = self._current
            if self._closed or call is None:
                raise stopping()
            try:
                return await call(path, method, signature, *arguments, seconds=seconds, on_result=on_result)
            except TimeoutError:
                member = method.rpartition(".")[2]
                raise HiveError(
                    "no_systemd", f"systemd did not answer {member} within {seconds:g} s", hint="try again", status=503
                ) from None
            except ConnectionLost as error:
                self._report_failure(call, str(error))
            except BusError as error:
                if error.name not in AWAY:
                    raise
                self._report_failure(call, str(error))

    async def close(self) -> None:
        """End the connection. Pending and later calls raise HiveError `stopping`."""
        self._closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        await self._drop()
        await self._thread.stop()
        self._usable.set()

    async def _reconnect(self) -> None:
        """Reconnect after each failure."""
        pause = _SHORTEST_PAUSE
        while True:
            await self._disconnected.wait()
            if pause == _SHORTEST_PAUSE:
                _log.warning("systemd cannot be reached", reason=self._reason)
            await self._drop()
            try:
                await self._connect()
            except (BusError, ConnectionLost, TimeoutError) as error:
                self._reason = str(error) or self._reason
                self._disconnected.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            _log.info("systemd can be reached again")
            pause = _SHORTEST_PAUSE

    async def _connect_first(self) -> None:
        """Connect for the first time.

        This may be the first connection since the boot of the host, and systemd joins the bus a moment later.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _JOIN_SECONDS
        while True:
            try:
                return await self._connect()
            except BusError as error:
                if self._address is not None or error.name not in AWAY or loop.time() >= deadline:
                    raise
            await self._drop()
            await asyncio.sleep(_SHORTEST_PAUSE)

    async def _connect(self) -> None:
        self._disconnected.clear()
        connection = self._connection = await BusConnection.open(
            self._thread, self._address, self._wanted, _CONNECT_SECONDS
        )
        connection.call_when_lost(lambda: self._on_lost(connection))
        changed = f"{_DBUS}.NameOwnerChanged"
        connection.subscribe(_DBUS, changed, lambda *_: self._on_lost(connection), first=SYSTEMD)
        (owner,) = await connection.call(_DBUS, "/org/freedesktop/DBus", f"{_DBUS}.GetNameOwner", "(s)", SYSTEMD)
        # By its unique name, so that signals of other programs are not accepted as systemd's.
        for signal, handler in self._signals.items():
            connection.subscribe(owner, signal, handler)
        call = partial(connection.call, owner)
        await call(ROOT, f"{MANAGER}.Subscribe")
        await self._on_connect(call)
        self._current = call
        if not self._disconnected.is_set():
            self._usable.set()

    async def _drop(self) -> None:
        """Close the current connection."""
        connection, self._connection, self._current = self._connection, None, None
        if connection is not None:
            await connection.close()

    def _on_lost(self, connection: BusConnection) -> None:
        if connection is self._connection:
            self._report_failure(self._current, "the connection has ended or systemd has left the bus")

    def _report_failure(self, call: BusCall | None, why: str) -> None:
        if call is self._current:  # Otherwise there is a new connection already.
            self._reason = why
            self._usable.clear()
            self._disconnected.set()


def stopping() -> HiveError:
    """Return the error for calls after `close`."""
    return HiveError("stopping", "the hive is stopping", hint="start it again first", status=503)


def no_dbus(why: str) -> HiveError:
    """Return the error for a bus that cannot be reached."""
    return HiveError(
        "no_dbus",
        f"the system's message bus cannot be reached: {why}",
        hint="the nixos runtime needs it: see `systemctl status dbus.socket`, and run the daemon as root",
        status=503,
    )
