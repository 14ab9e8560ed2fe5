"""A private connection to a message bus: calls, and signals, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from hive_core.systemd.glib_thread import ConnectionLost, GLibThread

Heard = Callable[[str, Sequence[Any]], None]
"""What is called with a signal's object path and arguments, on the event loop."""
Then = Callable[[Sequence[Any]], None]
SECONDS = 30.0
"""How long the other side may take for an answer."""


class BusError(Exception):
    """The other side answered with an error: its D-Bus name, and its text as the exception's."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class Connection:
    """One connection to a message bus, not shared with anybody.

    Of dictionaries of properties only the `wanted` are read: to make Python values of all those of a service takes
    longer than to get them.
    """

    def __init__(self, thread: GLibThread, con: Any, wanted: Collection[str]) -> None:
        self._thread = thread
        # Not `con.pydbus`, an attribute of the connection: with one, GIO's thread waits for Python's lock at each
        # message, with a lock that freeing another connection takes. That is a deadlock, sooner or later.
        self._bus = thread.bus(con)
        self._wanted = wanted
        self._subscriptions: list[Any] = []
        self._closed = 0
        # GIO ends the process with a connection for which this is on.
        con.set_exit_on_close(False)

    def when_lost(self, told: Callable[[], None]) -> None:
        """`told` is called when the connection has ended, however it did."""
        con = self._bus.con
        self._closed = con.connect("closed", lambda *_: self._thread.tell(told))
        if con.is_closed():
            told()

    @classmethod
    async def open(cls, thread: GLibThread, address: str | None, wanted: Collection[str], seconds: float) -> Connection:
        """Connect to the bus at `address`, or to the system's. Raises ConnectionLost, in words, if there is none."""
        gio = thread.gio
        flags = gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        made = gio.DBusConnection
        try:
            where = address or gio.dbus_address_get_for_bus_sync(gio.BusType.SYSTEM, None)
            async with asyncio.timeout(seconds):
                con = await thread.finish(
                    lambda cancellable, done: made.new_for_address(where, flags, None, cancellable, done),
                    made.new_for_address_finish,
                )
        except TimeoutError:
            raise ConnectionLost(f"it did not answer within {seconds:g} s") from None
        except thread.glib.Error as error:
            raise ConnectionLost(str(error.message)) from None
        return cls(thread, con, wanted)

    async def call(
        self,
        destination: str,
        path: str,
        method: str,
        signature: str = "()",
        *arguments: object,
        seconds: float = SECONDS,
        then: Then | None = None,
    ) -> Sequence[Any]:
        """Call `method` ("interface.Member") and give its results; `then` is called with them before any later signal
        is heard. Raises BusError, ConnectionLost, TimeoutError.
        """
        interface, _, member = method.rpartition(".")
        con, glib, gio = self._bus.con, self._thread.glib, self._thread.gio

        def begin(cancellable: Any, done: Callable[..., None]) -> None:
            values = glib.Variant(signature, arguments)
            none = gio.DBusCallFlags.NONE
            milliseconds = int(seconds * 1000)
            con.call(destination, path, interface, member, values, None, none, milliseconds, cancellable, done)

        def end(result: Any) -> Sequence[Any]:
            values = self._values(con.call_finish(result))
            if then is not None:
                self._thread.tell(then, values)
            return values

        try:
            return await self._thread.finish(begin, end)
        except glib.Error as error:
            name = gio.DBusError.get_remote_error(error)
            if name is None or name == "org.freedesktop.DBus.Error.Disconnected":
                if error.matches(gio.io_error_quark(), gio.IOErrorEnum.TIMED_OUT):
                    raise TimeoutError from None
                raise ConnectionLost(str(error.message)) from None
            # GIO puts the name before the text.
            raise BusError(name, str(error.message).partition(f":{name}: ")[2] or str(error.message)) from None

    def listen(self, sender: str, signal: str, heard: Heard, *, first: str = "") -> None:
        """Hear every `signal` ("interface.Member") of `sender` from now on; only those that begin with `first`."""
        interface, _, member = signal.rpartition(".")

        def fired(_con: Any, _sender: str, path: str, _interface: str, _member: str, values: Any) -> None:
            self._thread.tell(heard, path, self._values(values))

        def begin() -> None:
            flags = self._thread.gio.DBusSignalFlags.NONE
            self._subscriptions.append(
                self._thread.subscription(self._bus.con, sender, interface, member, None, first or None, flags, fired)
            )

        # On the thread, so that it is the thread's loop that hears.
        self._thread.call(begin)

    def _values(self, message: Any) -> Sequence[Any]:
        return [self._value(message.get_child_value(index)) for index in range(message.n_children())]

    def _value(self, value: Any) -> Any:
        if value.get_type_string() != "a{sv}":
            return value.unpack()
        found = ((name, value.lookup_value(name, None)) for name in self._wanted)
        return {name: one.unpack() for name, one in found if one is not None}

    async def close(self) -> None:
        """End the connection; what waits for an answer gets ConnectionLost."""
        con = self._bus.con

        def begin(cancellable: Any, done: Callable[..., None]) -> None:
            for subscription in self._subscriptions:
                subscription.unsubscribe()
            self._subscriptions.clear()
            if self._closed:
                con.disconnect(self._closed)
            con.close(cancellable, done)

        with suppress(self._thread.glib.Error, ConnectionLost):  # It is closed already.
            await self._thread.finish(begin, con.close_finish)
