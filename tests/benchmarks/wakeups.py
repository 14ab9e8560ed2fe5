"""How soon a waiting recipient has a message, beside JetStream."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.bench_directory import say
from tests.benchmarks.bench_hive import hive
from tests.benchmarks.client import Client, client
from tests.benchmarks.figure import Bound, Figure, percentile
from tests.benchmarks.jetstream import jetstream

ROUNDS = 7
MESSAGES = 200
WARM_UP = 50
IDLE = 100


def run(directory: Path) -> list[Figure]:
    """From the sender's first byte until the recipient holds the message, 100 others waiting; rounds take turns."""
    halves: dict[str, list[float]] = {"hive": [], "jetstream": []}
    tails: dict[str, list[float]] = {"hive": [], "jetstream": []}

    def measure(name: str, waker: Client) -> None:
        milliseconds = [1_000 * seconds for seconds in waker.round(MESSAGES)]
        halves[name].append(percentile(milliseconds, 0.5))
        tails[name].append(percentile(milliseconds, 0.99))

    idle = [f"idle{number}" for number in range(IDLE)]
    with hive(directory / "hive") as running, jetstream(directory / "nats") as address:
        running.spawn("bob", *idle)
        sockets = [running.host_socket, *(running.core_socket(name) for name in ("bob", *idle))]
        with (
            client("wakeups_of_hive", *map(str, sockets)) as ours,
            client("wakeups_of_jetstream", address, str(IDLE)) as theirs,
        ):
            ours.round(WARM_UP)
            theirs.round(WARM_UP)
            for number in range(1, ROUNDS + 1):
                measure("hive", ours)
                measure("jetstream", theirs)
                say(
                    f"round {number} of {ROUNDS}: p50 {halves['hive'][-1]:.2f} ms, p99 {tails['hive'][-1]:.2f} ms;"
                    f" JetStream {halves['jetstream'][-1]:.2f} ms, {tails['jetstream'][-1]:.2f} ms"
                )
    what = "send until the waiting recipient has it, 100 idle polls"
    below_2, below_10 = Bound("at most", 2.0, "value"), Bound("at most", 10.0, "value")
    return [
        Figure(f"{what}: p50", "ms", halves["hive"], halves["jetstream"], "JetStream", below_2),
        Figure(f"{what}: p99", "ms", tails["hive"], tails["jetstream"], "JetStream", below_10),
    ]
