"""One D-Bus connection, bridged from GLib to asyncio.

GLib has no types, so `Any` is used in this module only. All callbacks of GLib are passed to the event loop in order, so
that answers and signals stay in the order in which they arrived.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from hive_core.errors import HiveError

T = TypeVar("T")


SignalHandler = Callable[[str, Sequence[Any]], None]
"""A function that is called on the event loop with a signal's object path and arguments."""
ResultHandler = Callable[[Sequence[Any]], None]
"""A function that is called on the event loop with the results of a call."""
SECONDS = 30.0
"""Default time limit of a call."""


class BusError(Exception):
    """An error answer to a call, with its D-Bus name and its text."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class BusConnection:
    """One private connection to a message bus.

    Only the `wanted` properties of a dictionary are converted, because converting all properties of a service takes
    longer than receiving them.
    """

    def __init__(self, thread: GLibThread, con: Any, wanted: Collection[str]) -> None:
        self._thread = thread
        # Not `con.pydbus`: with a Python attribute on the connection, GIO's thread waits for the GIL at each message
        # while it holds a lock that the release of another connection needs, which can deadlock.
        self._bus = thread.bus(con)
        self._wanted = wanted
        self._subscriptions: list[Any] = []
        self._closed = 0
        # Otherwise GIO ends the process when the connection ends.
        con.set_exit_on_close(False)

    def call_when_lost(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` when the connection has ended for any reason."""
        con = self._bus.con
        self._closed = con.connect("closed", lambda *_: self._thread.call_on_loop(on_change))
        if con.is_closed():
            on_change()

    @classmethod
    async def open(
        cls, thread: GLibThread, address: str | None, wanted: Collection[str], seconds: float
    ) -> BusConnection:
        """Connect to the bus at `address`, or to the system bus. Raises ConnectionLost with the reason."""
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
        on_result: ResultHandler | None = None,
    ) -> Sequence[Any]:
        """Call `method` ("interface.Member") and return its results.

        `on_result` is called with the results before any later signal is delivered. Raises BusError, ConnectionLost,
        TimeoutError.
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
            if on_result is not None:
                self._thread.call_on_loop(on_result, values)
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

    def subscribe(self, sender: str, signal: str, on_signal: SignalHandler, *, first: str = "") -> None:
        """Subscribe to `signal` ("interface.Member") of `sender`; with `first`, only if that is its first argument."""
        interface, _, member = signal.rpartition(".")

        def on_arrival(_con: Any, _sender: str, path: str, _interface: str, _member: str, values: Any) -> None:
            self._thread.call_on_loop(on_signal, path, self._values(values))

        def begin() -> None:
            flags = self._thread.gio.DBusSignalFlags.NONE
            self._subscriptions.append(
                self._thread.subscription(
                    self._bus.con, sender, interface, member, None, first or None, flags, on_arrival
                )
            )

        # On the GLib thread, because its main loop must receive the signals.
        self._thread.call(begin)

    def _values(self, message: Any) -> Sequence[Any]:
        return [self._value(message.get_child_value(index)) for index in range(message.n_children())]

    def _value(self, value: Any) -> Any:
        if value.get_type_string() != "a{sv}":
            return value.unpack()
        found = ((name, value.lookup_value(name, None)) for name in self._wanted)
        return {name: one.unpack() for name, one in found if one is not None}

    async def close(self) -> None:
        """Close the connection. Pending calls raise ConnectionLost."""
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


class ConnectionLost(Exception):
    """The connection failed or ended before the answer came. The call may or may not have had an effect."""


class GLibThread:
    """A daemon thread with a GLib main loop, used from the event loop on which it was created."""

    def __init__(self) -> None:
        """Raises HiveError `no_pydbus`."""
        try:
            self.bus = importlib.import_module("pydbus.bus").Bus
            self.subscription = importlib.import_module("pydbus.subscription").Subscription
            self.glib = importlib.import_module("gi.repository.GLib")
            self.gio = importlib.import_module("gi.repository.Gio")
        except ImportError as error:
            raise HiveError(
                "no_pydbus",
                f"systemd cannot be controlled without pydbus and PyGObject: {error}",
                hint="install the package with its extra `nixos`: pip install 'hyperhive[nixos]', and with a GLib "
                "before 2.80 also 'PyGObject<3.52'",
            ) from None
        self._loop = asyncio.get_running_loop()
        self._context = self.glib.MainContext.new()
        self._main = self.glib.MainLoop.new(self._context, False)
        self._waiting: set[asyncio.Future[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="glib", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._context.push_thread_default()
        try:
            self._main.run()
        finally:
            self._context.pop_thread_default()

    def call(self, function: Callable[[], None]) -> None:
        """Call `function` on the GLib thread, in the order of the calls."""
        source = self.glib.idle_source_new()
        source.set_priority(self.glib.PRIORITY_DEFAULT)

        def run(*_: object) -> bool:
            function()
            return False

        source.set_callback(run)
        source.attach(self._context)

    def call_on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        """Call `function` on the event loop. Called on the GLib thread."""
        with suppress(RuntimeError):  # The event loop is closed.
            self._loop.call_soon_threadsafe(function, *arguments)

    async def finish(self, begin: Callable[[Any, Callable[..., None]], None], end: Callable[[Any], T]) -> T:
        """Run an asynchronous operation of GIO on the GLib thread, and return its result.

        `begin` gets the cancellable and the callback; `end` converts the result. Raises the errors of both, and
        ConnectionLost if the thread is stopped.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        cancellable = self.gio.Cancellable.new()

        def done(_source: object, result: object, *_: object) -> None:
            try:
                value = end(result)
            except Exception as error:
                self.call_on_loop(_fail, answer, error)
            else:
                self.call_on_loop(_settle, answer, value)

        def run() -> None:
            try:
                begin(cancellable, done)
            except Exception as error:
                self.call_on_loop(_fail, answer, error)

        self._waiting.add(answer)
        self.call(run)
        try:
            return await answer
        finally:
            self._waiting.discard(answer)
            if answer.cancelled():
                cancellable.cancel()

    async def stop(self) -> None:
        """End the thread and all pending operations."""
        for answer in self._waiting:
            _fail(answer, ConnectionLost("the connection is being closed"))
        self.call(self._main.quit)
        await asyncio.to_thread(self._thread.join, 5)


def _settle(answer: asyncio.Future[T], value: T) -> None:
    if not answer.done():
        answer.set_result(value)


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
