"""A host for tests of the nixos runtime: the stand-in of `nixos-container` below a directory, a systemd in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import cast

from hive_core.errors import HiveError
from hive_core.infra.systemd.bus import SystemBus
from hive_core.infra.systemd.units import UnitProperties, UnitSubscription
from hive_core.protocol import Limits
from hive_core.runtimes.base import BuildOrder
from hive_core.runtimes.nixos.build.builder import NixBuilder
from hive_core.runtimes.nixos.containers.inspection import HostPaths
from hive_core.runtimes.nixos.containers.nixos_container import NixosContainers
from hive_core.runtimes.nixos.runtime import NixosRuntime
from hive_core.runtimes.unit_state import BackOff
from tests.unit.core.runtimes.nixos.builders import layout_of

_CHECKOUT = Path(__file__).parents[5]
_NIXOS_CONTAINER = """#!/bin/sh
echo "nixos-container $*" >> {root}/calls
NIXOS_CONTAINER_ROOT={root} PYTHONPATH={checkout} exec {python} -S -m tests.helpers.fake_nixos_container "$@"
"""
# Like the real one, it opens its lock file whatever that is, and counts generations on.
_NIX_ENV = """#!/bin/sh
echo "nix-env $*" >> {root}/calls
: >> "$2.lock"
last=$(ls "$(dirname "$2")" | sed -n 's/^system-\\([0-9]*\\)-link$/\\1/p' | sort -n | tail -n 1)
next=$((${{last:-0}} + 1))
ln -s "$4" "$2-$next-link" && ln -sfn "system-$next-link" "$2" && rm "$2.lock"
"""
_SYSTEMCTL = "#!/bin/sh\necho ActiveState=inactive\n"


class FakeSystemd:
    """Units in memory, in place of the bus. `done` says what was asked, in order; `broken` units do not start."""

    def __init__(self) -> None:
        self.units: dict[str, UnitProperties] = {}
        self.limits_of: dict[str, Mapping[str, int]] = {}
        self.done: list[str] = []
        self.broken: set[str] = set()
        self._watches: list[UnitSubscription] = []
        self._runs = self._now = 0

    def put(self, unit: str, active: str, sub: str, **more: object) -> None:
        """Let something happen to a unit."""
        self._now += 1
        now = {"active": active, "sub": sub, "changed_usec": self._now, **more}
        state = replace(self._unit(unit), **now)  # type: ignore[arg-type]
        self.units[unit] = state
        for watch in self._watches:
            watch.put(state)

    async def properties(self, unit: str) -> UnitProperties:
        return self._unit(unit)

    async def limits(self, unit: str) -> Limits:
        return Limits(tasks_max=self.limits_of[unit]["TasksMax"])

    def watch(self, prefix: str) -> UnitSubscription:
        watch = UnitSubscription(prefix)
        self._watches.append(watch)
        return watch

    async def loaded(self, pattern: str) -> list[str]:
        return [unit for unit in self.units if fnmatch(unit, pattern)]

    async def reload(self) -> None:
        self.done.append("reload")

    async def start(self, unit: str) -> None:
        self.done.append(f"start {unit}")
        self._runs += 1
        self.put(unit, "activating", "start", invocation=str(self._runs), code=0, result="success")
        if unit in self.broken:
            self.put(unit, "failed", "failed", result="exit-code", code=1, status=1)
            raise HiveError("unit_failed", f"{unit} could not be started")
        self.put(unit, "active", "running", main_pid=42)

    async def stop(self, unit: str) -> None:
        self.done.append(f"stop {unit}")
        self.put(unit, "deactivating", "stop-sigterm")
        self.put(unit, "inactive", "dead", main_pid=0, code=1)

    async def set_limits(self, unit: str, properties: Mapping[str, int]) -> None:
        self.limits_of[unit] = properties

    async def close(self) -> None:
        for watch in self._watches:
            watch.end()

    def _unit(self, unit: str) -> UnitProperties:
        return self.units.get(unit, UnitProperties(unit, "inactive", "dead"))


class FakeBuilder:
    """In place of the builder: knows which closures there are."""

    store_directory = Path("/nix/store")

    def __init__(self, there: Collection[str]) -> None:
        self.there = set(there)
        self.kept: dict[str, set[str]] = {}

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        raise NotImplementedError

    async def need(self, name: str, closure: str) -> None:
        if closure not in self.there:
            raise HiveError("closure_gone", f"{closure} of {name} is gone", status=409)

    async def keep(self, name: str, closures: Collection[str]) -> None:
        self.kept[name] = set(closures)

    async def close(self) -> None:
        pass


class FakeHost:
    """A host whose root is `place`/host, and runtimes of one hive on it, one daemon after another."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = place / "host"
        self.layout = layout_of(place)
        self.host_paths = HostPaths(
            conf_dir=self.root / "etc/nixos-containers",
            root_dir=self.root / "var/lib/nixos-containers",
            profiles=self.root / "nix/var/nix/profiles/per-container",
            gcroots=self.root / "nix/var/nix/gcroots/per-container",
            dropins=self.root / "run/systemd/system",
            control=self.root / "run/systemd/system.control",
        )
        self.systemd = FakeSystemd()
        self.builder = FakeBuilder({"/nix/store/aaa-system", "/nix/store/bbb-system"})
        for directory in (self.host_paths.conf_dir, self.host_paths.dropins, self.root / "run/lock", self.root / "bin"):
            directory.mkdir(parents=True)
        for name, text in {
            "nixos-container": _NIXOS_CONTAINER,
            "nix-env": _NIX_ENV,
            "systemctl": _SYSTEMCTL,
        }.items():
            program = self.root / "bin" / name
            program.write_text(text.format(root=self.root, checkout=_CHECKOUT, python=sys.executable))
            program.chmod(0o755)

    @property
    def path(self) -> str:
        """The PATH on which the host's programs are."""
        return f"{self.root / 'bin'}:{os.environ['PATH']}"

    def calls(self) -> list[str]:
        """The programs that were run since this was asked last, shortened."""
        log = self.root / "calls"
        found = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [call.replace(f"{self.host_paths.profiles}/", "") for call in found]

    async def daemon(self, *, user_namespaces: bool = True) -> NixosRuntime:
        """The runtime of a new daemon."""
        runtime = NixosRuntime(
            cast(SystemBus, self.systemd),
            cast(NixBuilder, self.builder),
            NixosContainers(self.host_paths, user_namespaces=user_namespaces, by_flag=False),
            self.layout,
            confinement="",
            bubblewrap=None,
            user_namespaces=user_namespaces,
            stop_timeout=10,
            back_off=BackOff(first=0.01),
        )
        await runtime.adopt_running()
        return runtime
