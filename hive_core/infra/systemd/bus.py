"""Control of systemd units over D-Bus: start, stop, watch, limit.

Units are not polled: systemd signals every change (`Manager.Subscribe`, PropertiesChanged) with the values of that
moment, first those of the service, then those of the unit (org.freedesktop.systemd1(5)). After a reconnect, every
watched unit is read, so that changes during the interruption are reported late, but reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakSet

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import BackgroundTasks
from hive_core.infra.systemd.dbus import BusError
from hive_core.infra.systemd.reconnect import AWAY, MANAGER, ROOT, SYSTEMD, BusCall, ReconnectingBus, stopping
from hive_core.infra.systemd.resource_control import LIMITS, active_limits
from hive_core.infra.systemd.units import STATE, Jobs, UnitProperties, UnitSubscription, describe_exit, read_properties
from hive_core.protocol import Limits

_PROPERTIES = "org.freedesktop.DBus.Properties"
_RELOAD_SECONDS = 120.0


class SystemBus:
    """A client of systemd, created with `open` and used on that event loop. All methods may be called concurrently.

    Calls wait while the bus is not reachable, and raise HiveError `no_dbus` if that takes too long.
    """

    def __init__(self, address: str | None) -> None:
        self._watches: WeakSet[UnitSubscription] = WeakSet()
        self._services: dict[str, Mapping[str, Any]] = {}
        self._jobs = Jobs()
        self._tasks = BackgroundTasks()
        self._closed = False
        signals = {
            f"{_PROPERTIES}.PropertiesChanged": self._on_properties_changed,
            f"{MANAGER}.JobRemoved": self._on_job_removed,
            f"{MANAGER}.UnitRemoved": self._on_unit_removed,
        }
        self._reconnecting_bus = ReconnectingBus(address, {*STATE, *LIMITS}, signals, self._catch_up)

    @classmethod
    async def open(cls, address: str | None = None) -> SystemBus:
        """Connect to the system bus, or to the bus at `address`.

        Raises HiveError `no_pydbus`, `no_dbus`, `no_systemd`.
        """
        bus = cls(address)
        await bus._reconnecting_bus.open()
        return bus

    async def properties(self, unit: str) -> UnitProperties:
        """Read the state of a unit and its resource usage; a missing unit is inactive, its `load` "not-found"."""
        return read_properties(unit, await self._properties(unit))

    async def limits(self, unit: str) -> Limits:
        """Read the active limits of a unit."""
        return active_limits(await self._properties(unit))

    def watch(self, prefix: str) -> UnitSubscription:
        """Subscribe to the loaded units whose names begin with `prefix`: their current states, then every change.

        The states of a unit come in order, without repetitions and without measurements. Ends with `close`.
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
        """List the loaded units that match a pattern of fnmatch(3), in which `\\` must be doubled."""
        return [str(unit[0]) for unit in await self._call_manager("ListUnitsByPatterns", "(asas)", [], [pattern])]

    async def reload(self) -> None:
        """Have systemd read its unit files again."""
        await self._call_manager("Reload", seconds=_RELOAD_SECONDS)

    async def start(self, unit: str) -> None:
        """Start the unit if it is not active, and wait until it is.

        Its failure state and restart counter are reset. Raises HiveError `unit_failed`.
        """
        with suppress(BusError):  # The unit is not loaded, so there is nothing to reset.
            await self._reconnecting_bus.call(ROOT, f"{MANAGER}.ResetFailedUnit", "(s)", unit)
        await self._run_job("StartUnit", unit, lambda state: state.active == "active")

    async def stop(self, unit: str) -> None:
        """Stop the unit if it runs, and wait until no process of it is left.

        Raises HiveError `unit_failed`.
        """
        await self._run_job("StopUnit", unit, lambda state: state.active in ("inactive", "failed"))

    async def set_limits(self, unit: str, properties: Mapping[str, int]) -> None:
        """Set properties of the running unit until the next boot; see `resource_control.unit_properties`."""
        values = [(name, self._reconnecting_bus.number(value)) for name, value in properties.items()]
        await self._call_manager("SetUnitProperties", "(sba(sv))", unit, True, values)

    async def close(self) -> None:
        """End all subscriptions and the connection. Callers that wait for a job get an error."""
        self._closed = True
        await self._tasks.close()
        for watch in list(self._watches):
            watch.end()
        self._jobs.close(stopping())
        await self._reconnecting_bus.close()

    async def _run_job(self, method: str, unit: str, has_succeeded: Callable[[UnitProperties], bool]) -> None:
        with self._jobs.expect() as job:
            try:
                await self._reconnecting_bus.call(
                    ROOT, f"{MANAGER}.{method}", "(ss)", unit, "replace", on_result=job.set_path
                )
            except BusError as error:
                if method == "StopUnit" and error.name == f"{SYSTEMD}.NoSuchUnit":
                    return
                raise _unit_failed(method, unit, str(error)) from None
            result = await job.result
        if result == "done":
            return
        state = await self.properties(unit)
        # Without a result the job ended while the bus was not reachable, so the state of the unit decides.
        if result or not has_succeeded(state):
            raise _unit_failed(method, unit, describe_exit(state) or result or f"it is {state.active}")

    async def _properties(self, unit: str) -> Mapping[str, Any]:
        try:
            return _first_dictionary(await self._reconnecting_bus.call(unit_path(unit), *_GET_ALL))
        except BusError as error:
            raise _systemd_refused(error) from None

    async def _call_manager(self, method: str, signature: str = "()", *arguments: object, seconds: float = 30.0) -> Any:
        """Call a method of the manager and return its result, None if there is none."""
        try:
            values = await self._reconnecting_bus.call(
                ROOT, f"{MANAGER}.{method}", signature, *arguments, seconds=seconds
            )
            return values[0] if values else None
        except BusError as error:
            raise _systemd_refused(error) from None

    async def _catch_up(self, call: BusCall) -> None:
        """Read, over a new connection, the changes that may have been missed."""
        self._services.clear()
        for path in self._jobs.paths():
            try:
                await call(path, f"{_PROPERTIES}.Get", "(ss)", f"{SYSTEMD}.Job", "State")
            except BusError:
                self._jobs.end(path, "")
        for watch in list(self._watches):
            await self._read_units(call, watch)

    async def _read(self, watch: UnitSubscription) -> None:
        # If systemd is not reachable now, `_catch_up` reads the units when it is.
        with suppress(HiveError, BusError):
            await self._read_units(self._reconnecting_bus.call, watch)

    async def _read_units(self, call: BusCall, watch: UnitSubscription) -> None:
        """Read all units of a watch. Each answer is handled in order with the signals, before those that follow it."""
        loaded: list[str] = []

        def forget_unloaded(values: Sequence[Any]) -> None:
            loaded.extend(str(unit[0]) for unit in values[0])
            for name in set(watch.known).difference(loaded):
                watch.put(UnitProperties(name, "inactive", "dead"))
                watch.forget(name)

        def put(name: str, values: Sequence[Any]) -> None:
            self._services[name] = values[0]
            watch.put(read_properties(name, values[0]))

        pattern = watch.prefix.replace("\\", "\\\\") + "*"
        await call(ROOT, f"{MANAGER}.ListUnitsByPatterns", "(asas)", [], [pattern], on_result=forget_unloaded)
        for name in loaded:
            try:
                await call(unit_path(name), *_GET_ALL, on_result=partial(put, name))
            except BusError as error:
                if error.name in AWAY:
                    raise  # Any other error concerns this unit only, so the other units are still read.

    def _on_properties_changed(self, path: str, values: Sequence[Any]) -> None:
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

    def _on_unit_removed(self, _: str, values: Sequence[Any]) -> None:
        name = str(values[0])
        self._services.pop(name, None)
        for watch in list(self._watches):
            watch.forget(name)

    def _on_job_removed(self, _: str, values: Sequence[Any]) -> None:
        self._jobs.end(str(values[1]), str(values[3]))


_GET_ALL = (f"{_PROPERTIES}.GetAll", "(s)", "")
"""Without an interface, the answer has the properties of all interfaces, which are consistent."""


def _first_dictionary(values: Sequence[Any]) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = values[0]
    return properties


def _systemd_refused(error: BusError) -> HiveError:
    return HiveError(
        "systemd_refused",
        f"systemd refused the call: {error}",
        hint="the daemon must run as root; `journalctl -b _PID=1` may say more",
        status=500,
    )


def _unit_failed(method: str, unit: str, why: str) -> HiveError:
    action = "started" if method == "StartUnit" else "stopped"
    return HiveError(
        "unit_failed",
        f"{unit} could not be {action}: {why}",
        hint=f"see `journalctl -u {unit}` on the host",
        status=500,
    )


_UNITS = "/org/freedesktop/systemd1/unit/"
_NAME = re.compile(r"[A-Za-z0-9@:._\\-]{1,255}")
_ESCAPED = re.compile(r"_([0-9a-f]{2})")


def unit_path(unit: str) -> str:
    """Return the D-Bus path of a unit. Raises ValueError for an invalid unit name."""
    if _NAME.fullmatch(unit) is None:
        raise ValueError(f"no unit can be named {unit!r}")
    escaped = re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):02x}", unit)
    if escaped[0].isdigit():
        escaped = f"_{ord(escaped[0]):02x}{escaped[1:]}"
    return _UNITS + escaped


def escaped(text: str) -> str:
    """Escape a component of a path for the name of a unit (systemd.unit(5), "String Escaping")."""
    return re.sub(r"[^A-Za-z0-9:_.]|^\.", lambda found: f"\\x{ord(found[0]):02x}", text)


def unit_name(path: str) -> str | None:
    """Return the unit of a D-Bus path; None if it is not the path of a unit."""
    if not path.startswith(_UNITS):
        return None
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), path.removeprefix(_UNITS))
