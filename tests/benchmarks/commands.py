"""How long the command line takes, beside an interpreter that imports click."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.bench_directory import ROOT, say
from tests.benchmarks.bench_hive import hive
from tests.benchmarks.figure import Bound, Figure

ROUNDS = 21
AGENTS = 10


def run(directory: Path) -> list[Figure]:
    """`--help`, and `list` against a running daemon with ten agents; rounds take turns."""
    program = command_line()
    say(f"measuring {' '.join(program)}")
    with hive(directory / "hive") as running:
        running.spawn(*(f"agent{number}" for number in range(AGENTS)))
        commands = {
            "click": [sys.executable, "-c", "import click"],
            "help": [*program, "--help"],
            "list": [*program, "--socket", str(running.host_socket), "list"],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(ROUNDS + 1):
            for name, command in commands.items():
                milliseconds = 1_000 * _seconds(command)
                if number:  # The first round fills the page cache.
                    taken[name].append(milliseconds)
    beside = "import click"
    return [
        Figure("hive-c0re --help", "ms", taken["help"], taken["click"], beside, Bound("at most", 3, "ratio")),
        Figure(
            f"hive-c0re list, {AGENTS} agents",
            "ms",
            taken["list"],
            taken["click"],
            beside,
            Bound("at most", 6, "ratio"),
        ),
        Figure("  the same beside --help", "ms", taken["list"], taken["help"], "--help"),
    ]


def command_line() -> list[str]:
    """Return the beginning of every command line of the CLI: the installed script, if there is one."""
    script = Path(sys.executable).with_name("hive-c0re")
    return [str(script)] if script.exists() else [sys.executable, "-m", "hive_core"]


def _seconds(command: list[str]) -> float:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HIVE_")}
    started = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
