"""How many durable sends a second the daemon takes, beside JetStream on the same disk."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import proc
from tests.benchmarks.bench_directory import say
from tests.benchmarks.bench_hive import hive
from tests.benchmarks.client import Client, client
from tests.benchmarks.figure import Bound, Figure
from tests.benchmarks.jetstream import jetstream

ROUNDS = 7
MESSAGES = 6_000
WARM_UP = 2_000


def run(directory: Path) -> list[Figure]:
    """64 in flight, 512-byte bodies; rounds of both take turns."""
    rates: dict[str, list[float]] = {"hive": [], "jetstream": []}
    shares: dict[str, list[float]] = {"hive": [], "jetstream": [], "daemon": []}

    def measure(name: str, sender: Client) -> float:
        found = sender.round(MESSAGES)
        rates[name].append(MESSAGES / found["seconds"])
        shares[name].append(100 * found["cpu"] / found["seconds"])
        return float(found["seconds"])

    with hive(directory / "hive") as running, jetstream(directory / "nats") as address:
        running.spawn("bob")
        with (
            client("sends_to_hive", str(running.host_socket), "bob") as ours,
            client("sends_to_jetstream", address) as theirs,
        ):
            ours.round(WARM_UP)
            theirs.round(WARM_UP)
            for number in range(1, ROUNDS + 1):
                before = proc.cpu_seconds(running.pid)
                seconds = measure("hive", ours)
                shares["daemon"].append(100 * (proc.cpu_seconds(running.pid) - before) / seconds)
                measure("jetstream", theirs)
                say(f"round {number} of {ROUNDS}: {rates['hive'][-1]:,.0f}/s, {rates['jetstream'][-1]:,.0f}/s")
    return [
        Figure(
            "durable sends, 64 in flight, 512 bytes",
            "/s",
            rates["hive"],
            rates["jetstream"],
            "JetStream",
            Bound("at least", 1.2, "ratio"),
        ),
        Figure("  processor time of the client", "% of a core", shares["hive"], shares["jetstream"], "JetStream"),
        Figure("  processor time of the daemon", "% of a core", shares["daemon"]),
    ]
