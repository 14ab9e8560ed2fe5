"""A lasting link to systemd: connections to the bus come and go under it, and what is asked waits for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import structlog

from hive_core.errors import HiveError
from hive_core.infra.systemd.dbus import SECONDS, BusConnection, BusError, ConnectionLost, GLibThread, Heard, Then

SYSTEMD = "org.freedesktop.systemd1"
ROOT = "/org/freedesktop/systemd1"
MANAGER = f"{SYSTEMD}.Manager"
_DBUS = "org.freedesktop.DBus"
AWAY = {f"{_DBUS}.Error.{name}" for name in ("NoReply", "ServiceUnknown", "NameHasNoOwner")}
"""Errors of the bus that say that systemd is not on it at the moment."""
_CONNECT_SECONDS = 10.0
_JOIN_SECONDS = 5.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0

_log = structlog.get_logger(__name__)


class BusCall(Protocol):
    """Calls systemd at an object, as `BusConnection.call` does."""

    async def __call__(
        self,
        path: str,
        method: str,
        signature: str = "()",
        *arguments: object,
        seconds: float = SECONDS,
        on_result: Then | None = None,
    ) -> Sequence[Any]: ...


class ReconnectingBus:
    """Made with `open`. `signals` ("interface.Member") are heard as long as there is a connection; `attached` is
    awaited with each new one, when these are heard already: it reads what may have been missed. `wanted` are the
    properties that are read.
    """

    def __init__(
        self,
        address: str | None,
        wanted: Collection[str],
        signals: Mapping[str, Heard],
        attached: Callable[[BusCall], Awaitable[None]],
    ) -> None:
        self._address = address
        self._wanted = wanted
        self._signals = signals
        self._attached = attached
        self._thread = GLibThread()
        self._connection: BusConnection | None = None
        self._current: BusCall | None = None
        self._usable = asyncio.Event()
        self._troubled = asyncio.Event()
        self._why = ""
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect. Raises HiveError `no_dbus`, `no_systemd`."""
        try:
            await self._join()
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
        self._keeper = asyncio.create_task(self._keep())

    def number(self, value: int) -> object:
        """A number as a value for a property, to be sent."""
        value_of_64_bits: object = self._thread.glib.Variant("t", value)
        return value_of_64_bits

    async def call(
        self,
        path: str,
        method: str,
        signature: str = "()",
        *arguments: object,
        seconds: float = SECONDS,
        on_result: Then | None = None,
    ) -> Sequence[Any]:
        """Call systemd, and call again if the bus went away meanwhile: only for what may be done twice.

        Raises BusError, and HiveError `no_dbus`, `no_systemd` if there was no answer for `seconds`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._usable.wait()
            if loop.time() >= deadline:
                raise no_dbus(self._why)
            call = self._current
            if self._closed or call is None:
                raise stopping()
            try:
                return await call(path, method, signature, *arguments, seconds=seconds, on_result=on_result)
            except TimeoutError:
                what = method.rpartition(".")[2]
                raise HiveError(
                    "no_systemd", f"systemd did not answer {what} within {seconds:g} s", hint="try again", status=503
                ) from None
            except ConnectionLost as error:
                self._trouble(call, str(error))
            except BusError as error:
                if error.name not in AWAY:
                    raise
                self._trouble(call, str(error))

    async def close(self) -> None:
        """End the connection. What waits for an answer, or is asked later, is refused as `stopping`."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._drop()
        await self._thread.stop()
        self._usable.set()

    async def _keep(self) -> None:
        """Connect anew whenever there is trouble."""
        pause = _SHORTEST_PAUSE
        while True:
            await self._troubled.wait()
            if pause == _SHORTEST_PAUSE:
                _log.warning("systemd cannot be reached", reason=self._why)
            await self._drop()
            try:
                await self._connect()
            except (BusError, ConnectionLost, TimeoutError) as error:
                self._why = str(error) or self._why
                self._troubled.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            _log.info("systemd is reached again")
            pause = _SHORTEST_PAUSE

    async def _join(self) -> None:
        """Connect for the first time. On the host's own bus systemd comes a moment after the bus, which this connection
        may be the first to use since the host was booted.
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
        self._troubled.clear()
        connection = self._connection = await BusConnection.open(
            self._thread, self._address, self._wanted, _CONNECT_SECONDS
        )
        connection.when_lost(lambda: self._lost(connection))
        changed = f"{_DBUS}.NameOwnerChanged"
        connection.listen(_DBUS, changed, lambda *_: self._lost(connection), first=SYSTEMD)
        (owner,) = await connection.call(_DBUS, "/org/freedesktop/DBus", f"{_DBUS}.GetNameOwner", "(s)", SYSTEMD)
        # By its own name: signals that somebody else sends to this connection are not taken for systemd's.
        for signal, heard in self._signals.items():
            connection.listen(owner, signal, heard)
        call = partial(connection.call, owner)
        await call(ROOT, f"{MANAGER}.Subscribe")
        await self._attached(call)
        self._current = call
        if not self._troubled.is_set():
            self._usable.set()

    async def _drop(self) -> None:
        """End the connection and forget it."""
        connection, self._connection, self._current = self._connection, None, None
        if connection is not None:
            await connection.close()

    def _lost(self, connection: BusConnection) -> None:
        if connection is self._connection:
            self._trouble(self._current, "the connection has ended or systemd has left the bus")

    def _trouble(self, call: BusCall | None, why: str) -> None:
        if call is self._current:  # Else there is a new connection already.
            self._why = why
            self._usable.clear()
            self._troubled.set()


def stopping() -> HiveError:
    """Nothing is asked of systemd any more."""
    return HiveError("stopping", "the hive is stopping", hint="start it again first", status=503)


def no_dbus(why: str) -> HiveError:
    """The bus is not there."""
    return HiveError(
        "no_dbus",
        f"the system's message bus cannot be reached: {why}",
        hint="the nixos runtime needs them: see `systemctl status dbus.socket`, and run the daemon as root",
        status=503,
    )
