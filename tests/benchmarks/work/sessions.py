"""The speed of people's way into an agent: commands, copies, forwarded ports and keys, beside plain programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.benchmarks.bench_directory import ROOT, say
from tests.benchmarks.bench_hive import BenchHive, hive
from tests.benchmarks.commands import command_line
from tests.benchmarks.figure import Bound, Figure, percentile
from tests.benchmarks.work import keys, round_trips

EXEC_ROUNDS = 41
COPY_BYTES = 1_000_000_000
COPY_ROUNDS = 3

_AGENT = "ada"
_PATIENCE = 60.0
_PIECE = 1_000_000


def run(directory: Path) -> list[Figure]:
    """Measure one agent, which runs and has nothing to do."""
    with hive(directory / "hive") as running:
        # With the host's network, so that a connection without forwarding reaches the same port.
        running.ask("POST", "/v1/agents", {"name": _AGENT, "config": {"network": "host"}})
        _wait_idle(running)
        cli = [*command_line(), "--socket", str(running.host_socket)]
        return [
            *_commands(cli),
            *_copies(cli, running, directory),
            *_round_trips(cli),
            *_keys(cli),
        ]


def _commands(cli: list[str]) -> list[Figure]:
    taken: dict[str, list[float]] = {"exec": [], "help": []}
    for number in range(EXEC_ROUNDS + 1):
        for what, arguments in (("help", ["--help"]), ("exec", ["exec", _AGENT, "--", "true"])):
            milliseconds = 1_000 * _seconds([*cli, *arguments])
            if number:  # The first session starts what serves them.
                taken[what].append(milliseconds)
    bound = Bound("at most", 60, "difference")
    return [Figure("exec AGENT -- true", "ms", taken["exec"], taken["help"], "--help", bound)]


def _copies(cli: list[str], running: BenchHive, directory: Path) -> list[Figure]:
    """Copy one file into the agent and out of it; plain tar copies it between two directories of the same disk."""
    size = f"cp of {COPY_BYTES / 10**9:g} GB"
    source, plain, back = (directory / name for name in ("source", "plain", "back"))
    for each in (source, plain, back):
        each.mkdir()
    with (source / "file").open("wb") as file:
        for _ in range(COPY_BYTES // _PIECE):
            file.write(os.urandom(_PIECE))
    state = running.state_dir / "agents" / _AGENT / "state"
    taken: dict[str, list[float]] = {"tar": [], "in": [], "out": []}
    for number in range(COPY_ROUNDS + 1):
        os.sync()  # Nobody pays for what the round before has left to be written.
        pair = f"tar -C {source} -cf - file | tar -C {plain} -xf -"
        rates = {"tar": COPY_BYTES / 1e6 / _seconds(["sh", "-c", pair])}
        (plain / "file").unlink()
        os.sync()
        rates["in"] = COPY_BYTES / 1e6 / _seconds([*cli, "cp", str(source / "file"), f"{_AGENT}:/state/file"])
        os.sync()
        rates["out"] = COPY_BYTES / 1e6 / _seconds([*cli, "cp", f"{_AGENT}:/state/file", str(back / "file")])
        assert (state / "file").stat().st_size == (back / "file").stat().st_size == (source / "file").stat().st_size
        for copy in (state / "file", back / "file"):
            copy.unlink()
        say(f"copy {number} of {COPY_ROUNDS}: {', '.join(f'{what} {rate:.0f} MB/s' for what, rate in rates.items())}")
        if number:
            for what, rate in rates.items():
                taken[what].append(rate)
    shutil.rmtree(source)
    half = Bound("at least", 0.5, "ratio")
    beside = "tar through a pipe"
    return [
        Figure(f"{size} into an agent", "MB/s", taken["in"], taken["tar"], beside, half),
        Figure(f"{size} out of an agent", "MB/s", taken["out"], taken["tar"], beside, half),
    ]


def _round_trips(cli: list[str]) -> list[Figure]:
    """Beside connections to the same program directly: the agent's network is the host's."""
    found = round_trips.measure(cli, _AGENT)
    bound = Bound("at most", 1, "difference")
    return [
        Figure(f"port-forward: {what}", "ms", ours, plain, "directly", bound) for what, (ours, plain) in found.items()
    ]


def _keys(cli: list[str]) -> list[Figure]:
    shown, plain = keys.measure([*cli, "shell", _AGENT], ["bash"])
    slow = percentile(plain, 0.99)
    bound = Bound("at most", 20, "value")
    return [
        Figure("shell: key press to echo, p99", "ms", [percentile(shown, 0.99)], [slow], "bash on a pty", bound),
        Figure("  the same, each key", "ms", shown, plain, "bash on a pty"),
    ]


def _wait_idle(running: BenchHive) -> None:
    give_up = time.monotonic() + _PATIENCE
    while (state := running.ask("GET", f"/v1/agents/{_AGENT}")["state"]) != "idle":
        if time.monotonic() > give_up:
            raise RuntimeError(f"{_AGENT} is {state} after {_PATIENCE:.0f} s, not idle")
        time.sleep(0.05)


def _seconds(command: list[str]) -> float:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HIVE_")}
    started = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
