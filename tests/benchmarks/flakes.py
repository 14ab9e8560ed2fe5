"""How long it takes to render and lock the flakes of all agents, beside what Nix itself takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hive_core.runtimes.nixos.build import workspace
from hive_core.runtimes.nixos.build.flake import AgentFlake, lock, path_reference, render
from tests.benchmarks.bench_directory import say
from tests.benchmarks.figure import Bound, Figure
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix

AGENTS = 50
ROUNDS = 3
_HYPERHIVE = """
{
  outputs = { self }: {
    lib.agentSystem = given: { config.system.build.toplevel = given; };
  };
}
"""


def run(directory: Path) -> list[Figure]:
    """50 agents with an applied repository each; a small hyperhive, and no network."""
    if shutil.which("nix") is None:
        say("Nix is not installed (Debian package nix-bin): nothing is measured")
        return []
    nix = OwnNix(directory / "nix")
    hyperhive = directory / "hyperhive"
    hyperhive.mkdir()
    (hyperhive / "flake.nix").write_text(_HYPERHIVE)
    reference = path_reference(hyperhive)
    metadata = json.loads(nix.flake("flake", "metadata", "--json", reference))
    flakes = _flakes(directory, reference)
    rendering: list[float] = []
    staging_too: list[float] = []
    locking: list[float] = []
    for number in range(ROUNDS):
        say(f"round {number + 1} of {ROUNDS}")
        homes = [directory / f"round{number}" / flake.name for flake in flakes]
        started = time.perf_counter()
        for flake, home in zip(flakes, homes, strict=True):
            _write(flake, metadata, home)
        rendering.append(time.perf_counter() - started)
        started = time.perf_counter()
        for home in homes:
            nix.flake("flake", "lock", path_reference(home))
        locking.append(time.perf_counter() - started)
        started = time.perf_counter()
        for flake in flakes:
            build_workspace = workspace.BuildWorkspace.of(directory / f"scratch{number}", flake.name)
            workspace.prepare_workspace(build_workspace, flake.repository, 1, render(flake), lock(metadata))
        staging_too.append(time.perf_counter() - started)
    beside = "nix flake lock"
    return [
        Figure(f"flakes of {AGENTS} agents rendered and locked", "s", rendering, locking, beside,
               Bound("at most", 2.0, "value")),
        Figure("  and their repositories copied for the builds", "s", staging_too, locking, beside),
    ]  # fmt: skip


def _write(flake: AgentFlake, metadata: Mapping[str, Any], home: Path) -> None:
    home.mkdir(parents=True)
    (home / "flake.nix").write_text(render(flake))
    (home / "flake.lock").write_text(json.dumps(lock(metadata)))


def _flakes(directory: Path, hyperhive: str) -> list[AgentFlake]:
    work = directory / "work"
    line = ["git", "-c", "user.name=hive", "-c", "user.email=hive@localhost"]
    subprocess.run([*line, "init", "--quiet", "--initial-branch=main", str(work)], check=True)
    (work / "agent.nix").write_text("{ }\n")
    for command in (["add", "."], ["commit", "--quiet", "-m", "x"], ["tag", "-a", "-m", "x", "proposal/1"]):
        subprocess.run([*line, "-C", str(work), *command], check=True)
    found = subprocess.run([*line, "-C", str(work), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    commit = found.stdout.strip()
    flakes = []
    for name in (f"agent{number}" for number in range(AGENTS)):
        repository = directory / "applied" / f"{name}.git"
        subprocess.run([*line, "clone", "--quiet", "--bare", str(work), str(repository)], check=True)
        flakes.append(AgentFlake(hyperhive, "x86_64-linux", name, "agent", repository, "refs/tags/proposal/1", commit))
    return flakes
