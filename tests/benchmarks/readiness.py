"""How soon the daemon is ready over a state directory that has seen much."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.bench_directory import ROOT, say
from tests.benchmarks.bench_hive import hive
from tests.benchmarks.client import client
from tests.benchmarks.figure import Bound, Figure

ROUNDS = 9
AGENTS = 100
PER_AGENT = 1_000
KEPT = 20
"""Messages per agent that are not acknowledged."""


def run(directory: Path) -> list[Figure]:
    """100 agents that are stopped (started, each is a process of its own), and 100,000 messages of 512 bytes.

    The files are in the page cache, as after a restart of the daemon and not of the machine.
    """
    names = [f"agent{number}" for number in range(AGENTS)]
    say(f"storing {AGENTS * PER_AGENT:,} messages")
    with hive(directory / "hive") as running:
        running.spawn(*names)
        sockets = [str(running.core_socket(name)) for name in names]
        with client("stored_messages", str(running.host_socket), str(KEPT), *sockets) as filler:
            filler.round(PER_AGENT)
        status = running.ask("GET", "/v1/status")
        stored, waiting = status["messages_stored"], status["messages_unacked"]
    ready: list[float] = []
    answered: list[float] = []
    imports: list[float] = []
    for number in range(ROUNDS + 1):
        seconds = _seconds_to_import()
        with hive(directory / "hive") as running:
            if number:  # The first round fills the page cache.
                ready.append(running.ready_seconds)
                answered.append(running.answered_seconds)
                imports.append(seconds)
    below_1 = Bound("at most", 1.0, "value")
    beside = "imports only"
    return [
        Figure(f"daemon says READY: {AGENTS} agents (stopped), {stored:,} messages ({waiting:,} unacknowledged)",
               "s", ready, imports, beside, below_1),
        Figure("  and has answered /healthz", "s", answered, imports, beside, below_1),
    ]  # fmt: skip


def _seconds_to_import() -> float:
    """Of an interpreter that imports what the daemon is made of, as it does, and ends at once."""
    script = "import os; from hive_core.cli.commands.host.host import import_daemon; import_daemon(); os._exit(0)"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    return time.perf_counter() - started
