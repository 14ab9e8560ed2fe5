"""The cost of 300 agents of the local runtime: starts, stops, memory, and the daemon's answers while they work.

They run on whatever this machine has; the bounds are for two cores. From what one takes follows how many a host of
16 GiB carries.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import proc
from tests.benchmarks.bench_directory import say
from tests.benchmarks.bench_hive import BenchHive, hive
from tests.benchmarks.figure import Bound, Figure, percentile

AGENTS = 300
AT_ONCE = 4
"""Reference processes that start side by side: as many as the daemon starts."""
REFERENCES = 20
"""Reference processes whose memory is measured: all of them would need as much as the agents."""
LISTS = 40
SENDS = 600
SENDS_PER_SECOND = 20
HOST_MB = 16 * 1024
SYSTEM_MB = 1024
"""The need of the rest of that host: its system, and room for the turns of some agents."""

_PATIENCE = 600.0
_IMPORTS = "import aiohttp.web, pydantic"
_WAITING = f"{_IMPORTS}, sys; print('ready', flush=True); sys.stdin.read()"


@dataclass
class Measured:
    """The measurements of the hive; times in seconds or, where named so, milliseconds; memory in MB."""

    idle: float = 0.0
    stop: float = 0.0
    list_ms: list[float] = field(default_factory=list)
    send_ms: list[float] = field(default_factory=list)
    sync_ms: list[float] = field(default_factory=list)
    healthz_ms: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    daemon_cpu: float = 0.0
    daemon_mb: float = 0.0
    alone_mb: float = 0.0
    descriptors: float = 0.0


def run(directory: Path) -> list[Figure]:
    """Spawn 300 agents, start the daemon again, and measure it with all of them."""
    names = [f"a{number}" for number in range(AGENTS)]
    found = Measured()
    with hive(directory / "hive") as running:
        found.alone_mb = proc.proportional_mb(running.pid)
        say(f"spawning {AGENTS} agents")
        _for_all(
            names, lambda name: running.ask("POST", "/v1/agents", {"name": name, "config": {"backend": "scripted"}})
        )
    say("starting the daemon again")
    began = time.monotonic()
    with hive(directory / "hive") as running:
        _wait_idle(running, names)
        found.idle = time.monotonic() - began
        say(f"all idle after {found.idle:.0f} s")
        _measure(running, names, found, directory)
        say("stopping all agents")
        began = time.monotonic()
        _for_all(names, lambda name: running.ask("POST", f"/v1/agents/{name}/stop"))
        found.stop = time.monotonic() - began
    say(f"{AGENTS} processes that only import, {AT_ONCE} at a time")
    began, used = time.monotonic(), _cpu_of_children()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: subprocess.run([sys.executable, "-c", _IMPORTS], check=True), names))
    imports, import_cpu = time.monotonic() - began, (_cpu_of_children() - used) / AGENTS
    with ExitStack() as stack:
        pids = [stack.enter_context(_importer()) for _ in range(REFERENCES)]
        import_mb = [proc.proportional_mb(pid) for pid in pids]
    return _figures(found, imports, import_cpu, import_mb)


def _measure(running: BenchHive, names: Sequence[str], found: Measured, directory: Path) -> None:
    """Measure a hive in which all agents are idle, and then at work."""
    pids = {name: int(status["pid"]) for name, status in _statuses(running).items()}
    found.memory = [_memory_mb(pids[name]) for name in names]
    found.cpu = [proc.cpu_seconds(pids[name]) for name in names]
    found.daemon_cpu = proc.cpu_seconds(running.pid)
    found.daemon_mb = proc.proportional_mb(running.pid)
    found.descriptors = sum(1 for _ in Path(f"/proc/{running.pid}/fd").iterdir()) / AGENTS
    for _ in range(LISTS):
        found.list_ms.append(_milliseconds(lambda: running.ask("GET", "/v1/agents")))
        found.healthz_ms.append(_milliseconds(lambda: running.ask("GET", "/healthz")))
    say(f"{SENDS} messages to all agents in turn, {SENDS_PER_SECOND} a second")
    with (directory / "synced").open("wb", buffering=0) as synced, _Connection(running.host_socket) as connection:

        def store() -> None:
            synced.write(b"x" * 4096)
            os.fdatasync(synced)

        start = time.monotonic()
        for number in range(SENDS):
            time.sleep(max(0.0, start + number / SENDS_PER_SECOND - time.monotonic()))
            send = partial(connection.post, "/v1/messages", {"to": names[number % AGENTS], "body": str(number)})
            found.send_ms.append(_milliseconds(send))
            found.sync_ms.append(_milliseconds(store))
    _wait_idle(running, names)


def _figures(found: Measured, imports: float, import_cpu: float, import_mb: Sequence[float]) -> list[Figure]:
    each = sorted(found.memory)[AGENTS // 2]
    share = (found.daemon_mb - found.alone_mb) / AGENTS
    carried = (HOST_MB - SYSTEM_MB - found.alone_mb) / (each + share)
    start, what = f"import only, {AT_ONCE} at a time", f"{AGENTS} agents"
    slow_list, slow_send = percentile(found.list_ms, 0.99), percentile(found.send_ms, 0.99)
    slow_healthz, slow_sync = percentile(found.healthz_ms, 0.99), percentile(found.sync_ms, 0.99)
    return [
        Figure(f"{what}: all idle after a start of the daemon", "s", [found.idle], [imports], start,
               Bound("at most", 150, "value")),
        Figure("  processor time of a harness", "s", found.cpu, [import_cpu], "import only"),
        Figure("  processor time of the daemon", "s", [found.daemon_cpu]),
        Figure(f"{what}: list, p99", "ms", [slow_list], [slow_healthz], "/healthz", Bound("at most", 200, "value")),
        Figure(f"{what} at work: send, p99", "ms", [slow_send], [slow_sync], "write and fdatasync",
               Bound("at most", 50, "value")),
        Figure(f"{what}: stop of all", "s", [found.stop], bound=Bound("at most", 60, "value")),
        Figure("memory of an idle agent (PSS of harness and sandbox)", "MB", found.memory, import_mb, "import only",
               Bound("at most", 32, "value")),
        Figure("memory of the daemon for each agent (PSS)", "MB", [share]),
        Figure("open files of the daemon for each agent", "", [found.descriptors]),
        Figure("idle agents that a host of 16 GiB carries", "", [float(int(carried))]),
    ]  # fmt: skip


class _Connection:
    """A connection to the operator's socket that is kept."""

    def __init__(self, path: Path) -> None:
        self._http = http.client.HTTPConnection("hive", timeout=60)
        self._http.sock = socket.socket(socket.AF_UNIX)
        self._http.sock.connect(str(path))

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def post(self, path: str, content: object) -> None:
        """Make one request; raises RuntimeError if it is refused."""
        self._http.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
        response = self._http.getresponse()
        text = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"POST {path}: {text.decode()}")


def _for_all(names: Sequence[str], act: Callable[[str], Any]) -> None:
    """Do something with all agents, with as many requests at a time as the operator's socket carries out."""
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(act, names))


def _statuses(running: BenchHive) -> dict[str, dict[str, Any]]:
    return {agent["name"]: agent for agent in running.ask("GET", "/v1/agents")["agents"]}


def _wait_idle(running: BenchHive, names: Sequence[str]) -> None:
    give_up = time.monotonic() + _PATIENCE
    while True:
        found = _statuses(running)
        busy = [name for name in names if found[name]["state"] != "idle" or found[name]["unacked"]]
        if not busy:
            return
        if time.monotonic() > give_up:
            raise RuntimeError(f"{len(busy)} agents are not idle after {_PATIENCE:.0f} s, {busy[0]}: {found[busy[0]]}")
        time.sleep(0.5)


def _memory_mb(harness: int) -> float:
    """Return the PSS of a harness, and of the sandbox around it."""
    total, pid = 0.0, harness
    for _ in range(3):  # The harness, the first process of the sandbox, and bwrap.
        total += proc.proportional_mb(pid)
        pid = proc.parent(pid)
        if proc.command(pid) != "bwrap":
            break
    return total


def _milliseconds(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return 1_000 * (time.perf_counter() - began)


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


@contextmanager
def _importer() -> Iterator[int]:
    """Run a process that has imported what every harness needs, and waits."""
    with subprocess.Popen([sys.executable, "-c", _WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
