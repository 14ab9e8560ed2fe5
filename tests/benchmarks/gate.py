"""How quick the gate is: proposals and decisions beside bare git, a long past beside a short one, and a long list."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.benchmarks import proposal_history
from tests.benchmarks.bench_directory import say
from tests.benchmarks.bench_hive import BenchHive, hive
from tests.benchmarks.figure import Bound, Figure
from tests.benchmarks.plain_git import bare_run
from tests.benchmarks.self_change import SelfChange

ROUNDS = 15
SHORT, LONG = 50, 5_000
"""Deployments of the two agents whose transitions are measured."""
AGENTS, PER_AGENT = 50, 20
LISTINGS = 21

Samples = defaultdict[tuple[str, int], list[float]]
"""Milliseconds by what was measured and by the length of the agent's past."""

_REQUESTS = {
    "propose": "propose until proposal/N is in place",
    "deny": "deny until denied/N is in place",
    "approve": "approve until approved/N is in place",
}
_IN_THE_BACKGROUND = {"build": "from proposal/N to built/N", "deploy": "from approved/N to deployed/N, agent stopped"}


def run(directory: Path) -> list[Figure]:
    """The first of each kind is not counted: the daemon imports only then what it needs for it."""
    with hive(directory / "hive") as running:
        listing, spawns = _list(running)
        found = _change(running)
    at_most_4, half_more = Bound("at most", 4, "ratio"), Bound("at most", 1.5, "ratio")
    beside = "commit-tree, tag -a, update-ref"
    figures = [
        Figure(f"{words}, {length:,} deployments", "ms", found[what, length], found["git", length], beside, at_most_4)
        for length in (SHORT, LONG)
        for what, words in _REQUESTS.items()
    ]
    figures += [
        Figure(f"{words}, {LONG:,} deployments", "ms", found[what, LONG], found[what, SHORT], f"{SHORT}", half_more)
        for what, words in {**_REQUESTS, **_IN_THE_BACKGROUND}.items()
    ]
    few = Bound("at most", 100, "value")
    return [
        *figures,
        Figure(f"list {AGENTS * PER_AGENT:,} proposals of {AGENTS} agents", "ms", listing, bound=few),
        Figure("spawn of an agent that is not started", "ms", spawns),
    ]


def _list(running: BenchHive) -> tuple[list[float], list[float]]:
    """Milliseconds of each listing of everything, and of each spawn that went before."""
    names = [f"agent{number}" for number in range(AGENTS)]
    spawns = [_milliseconds(partial(running.spawn, name)) for name in names]
    for name in names:
        # The spawn is one of them.
        proposal_history.denials(running.state_dir / "applied" / f"{name}.git", name, PER_AGENT - 1)
    running.ask("POST", "/v1/proposals/reindex")
    everything = f"/v1/proposals?limit={AGENTS * PER_AGENT}&state=all"
    found = running.ask("GET", everything)
    assert len(found["proposals"]) == found["total"] == AGENTS * PER_AGENT
    return [_milliseconds(lambda: running.ask("GET", everything)) for _ in range(LISTINGS)], spawns[1:]


def _change(running: BenchHive) -> Samples:
    """Rounds of the bare run, a change that is denied and one that is approved, of each agent in turn."""
    agents = {}
    for length in (SHORT, LONG):
        name = f"past{length}"
        running.spawn(name)
        agents[length] = changing = SelfChange(running, name)
        say(f"storing {length:,} deployments")
        proposal_history.deployments(changing.applied, name, length)
        changing.catch_up()
    running.ask("POST", "/v1/proposals/reindex")
    found: Samples = defaultdict(list)
    for number in range(ROUNDS + 1):
        taken: Samples = defaultdict(list)
        for length, changing in agents.items():
            taken["git", length].append(1_000 * bare_run(changing.applied))
            taken["propose", length].append(changing.propose())
            taken["build", length].append(changing.wait("proposal", "building"))
            taken["deny", length].append(changing.deny())
            changing.propose()
            changing.wait("proposal", "building")
            taken["approve", length].append(changing.approve())
            taken["deploy", length].append(changing.deployed())
        if number:
            for key, samples in taken.items():
                found[key] += samples
            said = [f"{what} {samples[0]:.0f} ms" for (what, length), samples in taken.items() if length == SHORT]
            say(f"round {number} of {ROUNDS}: {', '.join(said)}")
    return found


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1_000 * (time.perf_counter() - started)
