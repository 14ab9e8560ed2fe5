"""The rendered flake: its text, and that real Nix reads, locks and builds it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.runtimes.nixos.build.flake import ATTRIBUTE, AgentFlake, lock, path_reference, render
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix

FLAKE = AgentFlake(
    hyperhive="github:hyperhive/hyperhive",
    system="x86_64-linux",
    name="ada",
    kind="agent",
    repository=Path("/var/lib/hyperhive/applied/ada.git"),
    ref="refs/tags/proposal/7",
    commit="c0ffee" * 6 + "c0ff",
)
STAND_IN = """
{
  outputs = { self }: {
    lib.agentSystem = { system, name, kind, agent }: {
      config.system.build.toplevel = derivation {
        inherit system;
        name = "nixos-system-${name}";
        builder = "/bin/sh";
        recipe = self.narHash;
        args = [ "-euc" "/bin/mkdir $out; /bin/cp ${agent}/agent.nix $out/; echo $recipe ${kind} >$out/recipe" ];
      };
    };
  };
}
"""
HOSTILE = ("a b", "a?b#c&d=e", "100%25", "käse-蜂", "'${x}'", 'quote"d', "a+b@c;d,e")


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnNix]:
    yield OwnNix(tmp_path_factory.mktemp("nix"))


def test_the_text_is_a_flake() -> None:
    """The flake names hyperhive's, the agent's repository pinned by its commit, and what the system is of."""
    assert render(FLAKE) == (
        """\
# Written by hive-c0re for each build. Changes here are lost.
{
  description = "ada of this hive, at c0ffeec0ffee";

  inputs.hyperhive.url = "github:hyperhive/hyperhive";
  inputs.agent = {
    url = "git+file:///var/lib/hyperhive/applied/ada.git?ref=refs/tags/proposal/7&rev=c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff";
    flake = false;
  };

  outputs =
    { hyperhive, agent, ... }:
    {
      nixosConfigurations.container = hyperhive.lib.agentSystem {
        system = "x86_64-linux";
        name = "ada";
        kind = "agent";
        inherit agent;
      };
    };
}
"""
    )


def test_what_nix_cannot_hold_is_refused() -> None:
    """No part of a flake is silently left out."""
    with pytest.raises(ValueError, match="NUL"):
        render(replace(FLAKE, hyperhive="path:/a\0b"))


@needs_nix
@pytest.mark.parametrize("place", ["plain", *HOSTILE])
def test_real_nix_builds_it_wherever_the_repository_lies(nix: OwnNix, tmp_path: Path, place: str) -> None:
    """The commit that the flake names is what is built, also where paths are full of what means something in a URL."""
    home = tmp_path / "home"
    (home / "hyperhive").mkdir(parents=True)
    (home / "hyperhive/flake.nix").write_text(STAND_IN)
    repository, commit = _proposal(home / place / "ada.git", home / "work")
    hyperhive = path_reference(home / "hyperhive")
    flake = replace(FLAKE, hyperhive=hyperhive, repository=repository, ref="refs/tags/proposal/1", commit=commit)
    (home / "flake").mkdir()
    (home / "flake/flake.nix").write_text(render(flake))
    begun = lock(json.loads(nix.flake("flake", "metadata", "--json", hyperhive)))
    (home / "flake/flake.lock").write_text(json.dumps(begun))
    # Hyperhive is locked to what was fetched above: it need not be there any more.
    (home / "hyperhive").rename(home / "gone")

    out = home / "result"
    nix.flake("build", "--out-link", str(out), f"{path_reference(home / 'flake')}#{ATTRIBUTE}")

    assert (out / "agent.nix").read_text() == "{ proposed = 1; }\n"
    locked = json.loads((home / "flake/flake.lock").read_text())["nodes"]
    assert (out / "recipe").read_text() == f"{locked['hyperhive']['locked']['narHash']} agent\n"
    assert locked["agent"]["locked"]["rev"] == commit


def _proposal(repository: Path, work: Path) -> tuple[Path, str]:
    """A bare repository with `proposal/1`, an annotated tag, and a later commit on `main`."""

    def git(*arguments: str) -> str:
        line = ["git", "-c", "user.name=hive", "-c", "user.email=hive@localhost", "-C", str(work), *arguments]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    work.mkdir()
    git("init", "--quiet", "--initial-branch=main")
    (work / "agent.nix").write_text("{ proposed = 1; }\n")
    git("add", ".")
    git("commit", "--quiet", "--message=one")
    git("tag", "--annotate", "--message=proposed", "proposal/1")
    commit = git("rev-parse", "HEAD")
    (work / "agent.nix").write_text("{ proposed = 2; }\n")
    git("commit", "--quiet", "--all", "--message=two")
    git("clone", "--quiet", "--bare", str(work), str(repository))
    return repository, commit
