"""What idling costs: memory and wake-ups of a harness, memory of a daemon with many of them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks import proc
from tests.benchmarks.client import client
from tests.benchmarks.figures import Bound, Figure
from tests.benchmarks.hive import Hive, hive
from tests.benchmarks.workplace import say

HARNESSES = 5
AGENTS = 100
WATCHED_SECONDS = 10.0
SETTLING_SECONDS = 20.0
"""Until the HTTP client of a harness has thrown away the connections that it needed for its hello."""

_PATIENCE = 60.0
_REFERENCE = "import aiohttp.web, pydantic, sys; print('ready', flush=True); sys.stdin.read()"


def run(directory: Path) -> list[Figure]:
    """Harnesses as the daemon starts them, and 100 agents whose harnesses one client process plays."""
    return [*_harnesses(directory / "few"), *_daemon(directory / "many")]


def _harnesses(state_dir: Path) -> list[Figure]:
    names = [f"agent{number}" for number in range(HARNESSES)]
    with hive(state_dir) as running, ExitStack() as stack:
        running.spawn(*names, start=True)
        references = [stack.enter_context(_importer()) for _ in names]
        _until("idle harnesses", lambda: all(_status(running, name)["state"] == "idle" for name in names))
        pids = [int(_status(running, name)["pid"]) for name in names]
        time.sleep(SETTLING_SECONDS)
        say(f"{HARNESSES} harnesses idle; counting wake-ups for {WATCHED_SECONDS:.0f} s")
        *woken, daemon = _woken([*pids, running.pid], WATCHED_SECONDS)
        what, beside = "idle harness", "imports only"
        resident, proportional = ([read(pid) for pid in pids] for read in (proc.resident_mb, proc.proportional_mb))
        return [
            Figure(
                f"{what}: resident memory (VmRSS)",
                "MB",
                resident,
                [proc.resident_mb(pid) for pid in references],
                beside,
                Bound("at most", 1.2, "ratio"),
            ),
            Figure(
                f"{what}: proportional memory (PSS)",
                "MB",
                proportional,
                [proc.proportional_mb(pid) for pid in references],
                beside,
            ),
            Figure(f"{what}: wake-ups in {WATCHED_SECONDS:.0f} s", "", woken, bound=Bound("at most", 0, "value")),
            Figure(f"daemon with {HARNESSES} idle harnesses: wake-ups in {WATCHED_SECONDS:.0f} s", "", [daemon]),
        ]


def _daemon(state_dir: Path) -> list[Figure]:
    names = [f"agent{number}" for number in range(AGENTS)]
    with hive(state_dir) as running:
        alone = proc.resident_mb(running.pid)
        running.spawn(*names)
        with client("idle_harnesses", *(str(running.core_socket(name)) for name in names)):
            connected = proc.resident_mb(running.pid)
    return [
        Figure(f"daemon with {AGENTS} idle agents connected: VmRSS", "MB", [connected],
               bound=Bound("at most", 120, "value")),
        Figure("  the same without agents", "MB", [alone]),
    ]  # fmt: skip


@contextmanager
def _importer() -> Iterator[int]:
    """A process that has imported what every harness needs, and waits."""
    command = [sys.executable, "-c", _REFERENCE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


def _status(running: Hive, name: str) -> dict[str, Any]:
    status: dict[str, Any] = running.ask("GET", f"/v1/agents/{name}")
    return status


def _woken(pids: list[int], seconds: float) -> list[int]:
    before = [proc.wakeups(pid) for pid in pids]
    time.sleep(seconds)
    return [proc.wakeups(pid) - earlier for pid, earlier in zip(pids, before, strict=True)]


def _until(what: str, reached: Callable[[], bool]) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not reached():
        if time.monotonic() > give_up:
            say(f"no {what} after {_PATIENCE:.0f} s; going on")
            return
        time.sleep(0.1)
