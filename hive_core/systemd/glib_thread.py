"""GLib's main loop on a thread of its own, beside the event loop: the one module that loads pydbus and GLib.

These have no types: what is `Any` stays here and in `connection`. Everything that GLib calls back is handed to the
event loop in the order in which it came, so an answer and the signals around it keep theirs.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from hive_core.errors import HiveError

T = TypeVar("T")


class ConnectionLost(Exception):
    """There is no connection, or it ended before the answer came: whether the call had an effect is not known."""


class GLibThread:
    """One daemon thread with a GLib main loop of its own. Used from the event loop that it was made on."""

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
                f"systemd cannot be talked to without pydbus and PyGObject: {error}",
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

    def call(self, what: Callable[[], None]) -> None:
        """Call `what` on the thread, after what it was given before."""
        source = self.glib.idle_source_new()
        source.set_priority(self.glib.PRIORITY_DEFAULT)

        def run(*_: object) -> bool:
            what()
            return False

        source.set_callback(run)
        source.attach(self._context)

    def tell(self, what: Callable[..., None], *arguments: object) -> None:
        """Called on the thread: call `what` on the event loop."""
        with suppress(RuntimeError):  # The event loop is closed: nobody is left to hear it.
            self._loop.call_soon_threadsafe(what, *arguments)

    async def finish(self, begin: Callable[[Any, Callable[..., None]], None], end: Callable[[Any], T]) -> T:
        """Begin an operation of GIO on the thread, given its cancellable and callback, and wait for what `end` makes
        of its result. Raises what these raise, ConnectionLost if the thread is stopped.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        cancellable = self.gio.Cancellable.new()

        def done(_source: object, result: object, *_: object) -> None:
            try:
                value = end(result)
            except Exception as error:
                self.tell(_fail, answer, error)
            else:
                self.tell(_settle, answer, value)

        def run() -> None:
            try:
                begin(cancellable, done)
            except Exception as error:
                self.tell(_fail, answer, error)

        self._waiting.add(answer)
        self.call(run)
        try:
            return await answer
        finally:
            self._waiting.discard(answer)
            if answer.cancelled():
                cancellable.cancel()

    async def stop(self) -> None:
        """End the thread, and whatever waits for it."""
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
