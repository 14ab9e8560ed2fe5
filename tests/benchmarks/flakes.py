"""How long it takes to render and lock the flakes of all agents, beside what Nix itself takes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hive_core.layout import Layout
from hive_core.runtimes.base import BuildOrder
from hive_core.runtimes.nixos.build import workspace
from hive_core.runtimes.nixos.build.flake import AgentFlake, lock, path_reference, render, with_agent
from tests.benchmarks.bench_directory import say
from tests.benchmarks.figure import Bound, Figure
from tests.helpers.git_repos import FILES, order
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix

AGENTS = 50
ROUNDS = 3
_NAR_HASH = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
"""The form of a hash: what is in the store is not read here."""
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
    layout = Layout(directory / "state", directory / "run")
    orders = {name: order(layout, FILES, name) for name in (f"agent{number}" for number in range(AGENTS))}
    flakes = _flakes(nix, orders, reference)
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
            workspace.create_workspace(build_workspace)
            workspace.extract_source(build_workspace, orders[flake.name])
            workspace.write_flake(build_workspace, render(flake), _locked(flake, metadata))
        staging_too.append(time.perf_counter() - started)
    beside = "nix flake lock"
    return [
        Figure(f"flakes of {AGENTS} agents rendered and locked", "s", rendering, locking, beside,
               Bound("at most", 2.0, "value")),
        Figure("  and their files extracted for the builds", "s", staging_too, locking, beside),
    ]  # fmt: skip


def _write(flake: AgentFlake, metadata: Mapping[str, Any], home: Path) -> None:
    home.mkdir(parents=True)
    (home / "flake.nix").write_text(render(flake))
    (home / "flake.lock").write_text(json.dumps(_locked(flake, metadata)))


def _locked(flake: AgentFlake, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    begun = lock(metadata)
    assert begun is not None
    return with_agent(begun, flake.source, _NAR_HASH)


def _flakes(nix: OwnNix, orders: Mapping[str, BuildOrder], hyperhive: str) -> list[AgentFlake]:
    source = nix.directory / "source"
    source.mkdir()
    (source / "agent.nix").write_text("{ }\n")
    path = Path(nix.run("nix-store", "--add", str(source)).strip())
    return [AgentFlake(hyperhive, "x86_64-linux", name, "agent", path, order.commit) for name, order in orders.items()]
