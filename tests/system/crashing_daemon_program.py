"""The daemon's program for tests of the nixos runtime: it dies by SIGKILL at steps of choice, and is back at once.

Runs in front of the daemon's own command line. The file that DIE_AT names holds the names of steps, a line each: at
the first of them that is reached the daemon takes its line out, and dies. Steps are what the runtime does to the host:
what it has systemd do, the programs it runs (also while they work), the files it writes. As in the gate's own tests the
daemon is forked from a process that has imported everything.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hive_core.gate.records import transitions
from hive_core.infra.storage import files
from hive_core.infra.systemd.bus import SystemBus
from hive_core.runtimes.nixos import runtime as _nixos  # noqa: F401 - imported before the fork
from hive_core.runtimes.nixos.build import build_user, realise
from hive_core.runtimes.nixos.containers import filesystem, nixos_container
from tests.integration.gate.crashing_daemon_program import live_again_and_again

_HALF = 0.01
"""Seconds after which a program or a job of systemd's is at work and not done."""
_lock = threading.Lock()


def _reached(name: str) -> None:
    place = Path(os.environ["DIE_AT"])
    with _lock:
        steps = place.read_text().splitlines()
        if name in steps:
            steps.remove(name)
            place.write_text("".join(f"{one}\n" for one in steps))
            os.kill(os.getpid(), signal.SIGKILL)


def _step(name: Callable[..., str], work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """`work` with three steps in it: before it, while it is under way, and after it."""

    async def in_steps(*arguments: Any, **named: Any) -> Any:
        step = name(*arguments)
        _reached(f"before {step}")
        half = asyncio.get_running_loop().call_later(_HALF, _reached, f"during {step}")
        try:
            return await work(*arguments, **named)
        finally:
            half.cancel()
            _reached(f"after {step}")

    return in_steps


def _program(argv: list[str], *_: object) -> str:
    return " ".join(argv[:2]) if argv[0] == "nixos-container" else argv[0]


def _unit(unit: str, activity: str) -> str:
    return "the trial" if "trial" in unit else activity


def _replace(path: Path, *arguments: Any, **named: Any) -> bool:
    changed = _original_replace(path, *arguments, **named)
    _reached(
        f"after writing {'conf' if path.suffix == '.conf' and path.parent.name == 'nixos-containers' else path.name}"
    )
    return changed


def _point(profile: Path, closure: str) -> None:
    _reached("before setting the profile")
    _original_point(profile, closure)
    _reached("after setting the profile")


_original_replace = files.replace
_original_point = filesystem.point_profile


def _become_mortal() -> None:
    transitions.crash_point = _reached
    for verb in ("reload", "start", "stop"):
        setattr(SystemBus, verb, _step(lambda *_, verb=verb: f"systemd's {verb}", getattr(SystemBus, verb)))
    for module, name, step in (
        (nixos_container, "run", _program),
        (build_user, "execute", lambda unit, *_, **__: _unit(unit, "an evaluation")),
        (realise, "execute", lambda unit, *_, **__: _unit(unit, "a build")),
    ):
        setattr(module, name, _step(step, getattr(module, name)))
    files.replace = _replace
    filesystem.point_profile = _point


if __name__ == "__main__":
    sys.exit(live_again_and_again(_become_mortal))
