"""How soon everybody who watches an agent's page has an event, beside a bare loop over aiohttp's responses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks import proc
from tests.benchmarks.bench_directory import say
from tests.benchmarks.client import client
from tests.benchmarks.figure import Bound, Figure, percentile
from tests.benchmarks.page_publishing import A_SECOND

ROUNDS = 5
READERS = 200
EVENTS = 250
WARM_UP = 50


def run(directory: Path) -> list[Figure]:
    """200 readers, 50 events a second of some 500 bytes, all on this machine; rounds of both take turns.

    An event's time runs from when it was due, so that a server which falls behind does not hide it.
    """
    halves: dict[str, list[float]] = {"page": [], "loop": []}
    tails: dict[str, list[float]] = {"page": [], "loop": []}
    shares: dict[str, list[float]] = {"page": [], "loop": []}
    with (
        client("page_of_agent", str(directory)) as page,
        client("page_of_aiohttp") as loop,
        ThreadPoolExecutor(1) as beside,
    ):
        servers = {"page": page, "loop": loop}
        requests = {name: server.round(0) for name, server in servers.items()}
        with (
            client("page_readers", str(READERS), *requests["page"]) as of_page,
            client("page_readers", str(READERS), *requests["loop"]) as of_loop,
        ):
            readers = {"page": of_page, "loop": of_loop}
            for number in range(ROUNDS + 1):
                for name, server in servers.items():
                    events = EVENTS if number else WARM_UP
                    before = proc.cpu_seconds(server.pid)
                    reading = beside.submit(readers[name].round, events)
                    server.round(events)
                    milliseconds = reading.result()
                    if number:
                        halves[name].append(percentile(milliseconds, 0.5))
                        tails[name].append(percentile(milliseconds, 0.99))
                        used = proc.cpu_seconds(server.pid) - before
                        shares[name].append(100 * used / (events / A_SECOND))
                if number:
                    say(f"round {number} of {ROUNDS}: p99 {tails['page'][-1]:.1f} ms; loop {tails['loop'][-1]:.1f} ms")
    what, beside_it = f"event on the page of {READERS} readers, {A_SECOND}/s", "bare loop"
    below = Bound("at most", 100.0, "value")
    return [
        Figure(f"{what}: p50", "ms", halves["page"], halves["loop"], beside_it),
        Figure(f"{what}: p99", "ms", tails["page"], tails["loop"], beside_it, below),
        Figure("  processor time of the server", "% of a core", shares["page"], shares["loop"], beside_it),
    ]
