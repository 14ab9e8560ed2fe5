"""The units of systemd over D-Bus: start, stop, watch, limit.

Nothing is asked for again and again: systemd tells of every change (`Manager.Subscribe`, PropertiesChanged) with the
values as they were then, first those of the service, then those of the unit (org.freedesktop.systemd1(5)).
When the bus goes away, every watched unit is read after it has come back, so that what happened in between is told
late, but told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakSet

from hive_core.errors import HiveError
from hive_core.infra.systemd.dbus import BusError
from hive_core.infra.systemd.reconnect import AWAY, MANAGER, ROOT, SYSTEMD, BusCall, ReconnectingBus, stopping
from hive_core.infra.systemd.resource_control import LIMITS, active_limits
from hive_core.infra.systemd.units import STATE, Jobs, UnitProperties, UnitSubscription, describe_exit, read_properties
from hive_core.infra.tasks import BackgroundTasks
from hive_core.protocol import Limits

_PROPERTIES = "org.freedesktop.DBus.Properties"
_RELOAD_SECONDS = 120.0


class SystemBus:
    """Made with `open`; lives on the event loop that it was opened on. All methods may be called side by side.

    What is asked while the bus is away waits for it, and is refused as `no_dbus` when that takes too long.
    """

    def __init__(self, address: str | None) -> None:
        self._watches: WeakSet[UnitSubscription] = WeakSet()
        self._services: dict[str, Mapping[str, Any]] = {}
        self._jobs = Jobs()
        self._tasks = BackgroundTasks()
        self._closed = False
        signals = {
            f"{_PROPERTIES}.PropertiesChanged": self._changed,
            f"{MANAGER}.JobRemoved": self._job_removed,
            f"{MANAGER}.UnitRemoved": self._unit_removed,
        }
        self._reconnecting_bus = ReconnectingBus(address, {*STATE, *LIMITS}, signals, self._catch_up)

    @classmethod
    async def open(cls, address: str | None = None) -> SystemBus:
        """Connect to the system's bus, or to the one at `address`.

        Raises HiveError `no_pydbus`, `no_dbus`, `no_systemd`.
        """
        bus = cls(address)
        await bus._reconnecting_bus.open()
        return bus

    async def properties(self, unit: str) -> UnitProperties:
        """How the unit is now, with what it uses; one that does not exist is inactive, its `load` "not-found"."""
        return read_properties(unit, await self._properties(unit))

    async def limits(self, unit: str) -> Limits:
        """The limits in force for the unit."""
        return active_limits(await self._properties(unit))

    def watch(self, prefix: str) -> UnitSubscription:
        """How each loaded unit whose name begins with `prefix` is now, and then every change from this call on.

        A unit's states come in order and without repetitions; what is measured is not in them. Ends with `close`.
        """
        unit_path(prefix)
        watch = UnitSubscription(prefix)
        if self._closed:
            watch.end()
        else:
            self._watches.add(watch)
            self._tasks.start(self._read(watch))
        return watch

    async def loaded(self, pattern: str) -> list[str]:
        """The names of the loaded units that match a pattern of fnmatch(3), in which `\\` has to be doubled."""
        return [str(unit[0]) for unit in await self._ask("ListUnitsByPatterns", "(asas)", [], [pattern])]

    async def reload(self) -> None:
        """Have systemd read its unit files again."""
        await self._ask("Reload", seconds=_RELOAD_SECONDS)

    async def start(self, unit: str) -> None:
        """Start the unit and wait until it is up. Nothing happens if it is active.

        Its earlier failures are forgotten, and its restarts counted anew. Raises HiveError `unit_failed`.
        """
        with suppress(BusError):  # It is not loaded: there is nothing to forget.
            await self._reconnecting_bus.call(ROOT, f"{MANAGER}.ResetFailedUnit", "(s)", unit)
        await self._job("StartUnit", unit, lambda state: state.active == "active")

    async def stop(self, unit: str) -> None:
        """Stop the unit and wait until nothing of it runs. Nothing happens if it does not run or does not exist.

        Raises HiveError `unit_failed`.
        """
        await self._job("StopUnit", unit, lambda state: state.active in ("inactive", "failed"))

    async def set_limits(self, unit: str, properties: Mapping[str, int]) -> None:
        """Set properties of the unit at once, until the host is booted anew; see `resource_control.unit_properties`."""
        values = [(name, self._reconnecting_bus.number(value)) for name, value in properties.items()]
        await self._ask("SetUnitProperties", "(sba(sv))", unit, True, values)

    async def close(self) -> None:
        """End every watch and the connection; whoever waits for a job is refused."""
        self._closed = True
        await self._tasks.close()
        for watch in list(self._watches):
            watch.end()
        self._jobs.close(stopping())
        await self._reconnecting_bus.close()

    async def _job(self, method: str, unit: str, reached: Callable[[UnitProperties], bool]) -> None:
        with self._jobs.awaited() as job:
            try:
                await self._reconnecting_bus.call(
                    ROOT, f"{MANAGER}.{method}", "(ss)", unit, "replace", on_result=job.named
                )
            except BusError as error:
                if method == "StopUnit" and error.name == f"{SYSTEMD}.NoSuchUnit":
                    return
                raise _unit_failed(method, unit, str(error)) from None
            result = await job.result
        if result == "done":
            return
        state = await self.properties(unit)
        # Without a result the job ended while the bus was away: what has come of it is all that can be known.
        if result or not reached(state):
            raise _unit_failed(method, unit, describe_exit(state) or result or f"it is {state.active}")

    async def _properties(self, unit: str) -> Mapping[str, Any]:
        try:
            return _all(await self._reconnecting_bus.call(unit_path(unit), *_GET_ALL))
        except BusError as error:
            raise _refused(error) from None

    async def _ask(self, method: str, signature: str = "()", *arguments: object, seconds: float = 30.0) -> Any:
        """What the manager answers, without the tuple around it; None if that is empty."""
        try:
            values = await self._reconnecting_bus.call(
                ROOT, f"{MANAGER}.{method}", signature, *arguments, seconds=seconds
            )
            return values[0] if values else None
        except BusError as error:
            raise _refused(error) from None

    async def _catch_up(self, call: BusCall) -> None:
        """A connection is there, the first one or a new one: read what may have been missed."""
        self._services.clear()
        for path in self._jobs.paths():
            try:
                await call(path, f"{_PROPERTIES}.Get", "(ss)", f"{SYSTEMD}.Job", "State")
            except BusError:
                self._jobs.removed(path, "")
        for watch in list(self._watches):
            await self._look(call, watch)

    async def _read(self, watch: UnitSubscription) -> None:
        # If systemd cannot be reached now, the watch is read with all others when it can be.
        with suppress(HiveError, BusError):
            await self._look(self._reconnecting_bus.call, watch)

    async def _look(self, call: BusCall, watch: UnitSubscription) -> None:
        """Read all units of a watch. Each answer is put in its place among the signals, before those that follow it."""
        loaded: list[str] = []

        def listed(values: Sequence[Any]) -> None:
            loaded.extend(str(unit[0]) for unit in values[0])
            for gone in set(watch.known).difference(loaded):
                watch.put(UnitProperties(gone, "inactive", "dead"))
                watch.forget(gone)

        def put(name: str, values: Sequence[Any]) -> None:
            self._services[name] = values[0]
            watch.put(read_properties(name, values[0]))

        pattern = watch.prefix.replace("\\", "\\\\") + "*"
        await call(ROOT, f"{MANAGER}.ListUnitsByPatterns", "(asas)", [], [pattern], on_result=listed)
        for name in loaded:
            try:
                await call(unit_path(name), *_GET_ALL, on_result=partial(put, name))
            except BusError as error:
                if error.name in AWAY:
                    raise  # Else it is this unit's, and others must not suffer.

    def _changed(self, path: str, values: Sequence[Any]) -> None:
        name = unit_name(path)
        if name is None or not any(name.startswith(watch.prefix) for watch in self._watches):
            return
        interface, changed, _ = values
        if interface == f"{SYSTEMD}.Service":
            self._services[name] = changed
        elif interface == f"{SYSTEMD}.Unit" and (service := self._services.get(name)) is not None:
            state = read_properties(name, {**service, **changed})
            for watch in list(self._watches):
                watch.put(state)

    def _unit_removed(self, _: str, values: Sequence[Any]) -> None:
        name = str(values[0])
        self._services.pop(name, None)
        for watch in list(self._watches):
            watch.forget(name)

    def _job_removed(self, _: str, values: Sequence[Any]) -> None:
        self._jobs.removed(str(values[1]), str(values[3]))


_GET_ALL = (f"{_PROPERTIES}.GetAll", "(s)", "")
"""Without an interface: those of all, in one consistent answer."""


def _all(values: Sequence[Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = values[0]
    return found


def _refused(error: BusError) -> HiveError:
    return HiveError(
        "systemd_refused",
        f"systemd refused it: {error}",
        hint="the daemon must run as root: `journalctl -b _PID=1` may tell more",
        status=500,
    )


def _unit_failed(method: str, unit: str, why: str) -> HiveError:
    what = "started" if method == "StartUnit" else "stopped"
    return HiveError(
        "unit_failed", f"{unit} could not be {what}: {why}", hint=f"see `journalctl -u {unit}` on the host", status=500
    )


_UNITS = "/org/freedesktop/systemd1/unit/"
_NAME = re.compile(r"[A-Za-z0-9@:._\\-]{1,255}")
_ESCAPED = re.compile(r"_([0-9a-f]{2})")


def unit_path(unit: str) -> str:
    """The object of a unit. Raises ValueError for what is no unit's name."""
    if _NAME.fullmatch(unit) is None:
        raise ValueError(f"no unit can be named {unit!r}")
    escaped = re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):02x}", unit)
    if escaped[0].isdigit():
        escaped = f"_{ord(escaped[0]):02x}{escaped[1:]}"
    return _UNITS + escaped


def escaped(text: str) -> str:
    """A component of a path as it stands in the name of the path's unit (systemd.unit(5), "String Escaping")."""
    return re.sub(r"[^A-Za-z0-9:_.]|^\.", lambda found: f"\\x{ord(found[0]):02x}", text)


def unit_name(path: str) -> str | None:
    """The unit whose object `path` is; None if it is none."""
    if not path.startswith(_UNITS):
        return None
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), path.removeprefix(_UNITS))
