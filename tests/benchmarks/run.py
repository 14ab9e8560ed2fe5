"""The benchmarks' command line: `python -m tests.benchmarks.run [NAMES] [--json]`, from the checkout.

Each figure stands beside a reference measured in the same run, so that a slow machine slows both. A bound that is
missed is shown and fails nothing: whether it matters is for the reader to say.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks import commands, containers, flakes, gate, page, readiness, relay, sends, wakeups
from tests.benchmarks.agents import many, memory, turns
from tests.benchmarks.bench_directory import say, workplace, write_byte_code
from tests.benchmarks.figure import Figure, table
from tests.benchmarks.network import egress
from tests.benchmarks.work import everything as work

BENCHMARKS: dict[str, Callable[[Path], list[Figure]]] = {
    "sends": sends.run,
    "wakeups": wakeups.run,
    "memory": memory.run,
    "agents": many.run,
    "commands": commands.run,
    "readiness": readiness.run,
    "gate": gate.run,
    "flakes": flakes.run,
    "page": page.run,
    "containers": containers.run,
    "turns": turns.run,
    "work": work.run,
    "egress": egress.run,
    "relay": relay.run,
}


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks named, or all; 0 when each could be measured."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--json", action="store_true", help="every sample, as one JSON document")
    parser.add_argument(
        "--dir", type=Path, default=Path("/var/tmp"), help="where to store: a real disk (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    write_byte_code()
    results: dict[str, list[Figure]] = {}
    for name in options.names or BENCHMARKS:
        say(name)
        started = time.monotonic()
        with workplace(options.dir) as directory:
            results[name] = BENCHMARKS[name](directory)
        say(f"{name}: {time.monotonic() - started:.0f} s")
    sys.stdout.write(_document(results) if options.json else _text(results))
    return 0


def _document(results: dict[str, list[Figure]]) -> str:
    content = {name: [figure.as_json() for figure in figures] for name, figures in results.items()}
    return json.dumps({"machine": _machine(), "benchmarks": content}, indent=2) + "\n"


def _text(results: dict[str, list[Figure]]) -> str:
    figures = [figure for found in results.values() for figure in found]
    return f"{_machine()}\n\n{table(figures)}\n"


def _machine() -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, Python {python}, load average {load:.1f}; median (min to max) of all rounds"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
