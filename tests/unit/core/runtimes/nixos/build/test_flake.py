"""The rendered flake: its text, and that real Nix reads, locks and builds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.runtimes.nixos.build.flake import ATTRIBUTE, AgentFlake, lock, path_reference, render, with_agent
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix

ROOT = Path(__file__).parents[6]
SOURCE = Path("/nix/store/0jw0f4bvmmsa1nwi0wbz05iv1gbhqxa1-source")
FLAKE = AgentFlake(
    hyperhive="github:hyperhive/hyperhive",
    system="x86_64-linux",
    name="ada",
    kind="agent",
    source=SOURCE,
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
TEXT = """\
# Written by hive-c0re for each build. Changes here are lost.
{
  description = "ada of this hive, at c0ffeec0ffee";

  inputs.hyperhive.url = "github:hyperhive/hyperhive";
  inputs.agent = {
    url = "path:/nix/store/0jw0f4bvmmsa1nwi0wbz05iv1gbhqxa1-source";
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


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnNix]:
    yield OwnNix(tmp_path_factory.mktemp("nix"))


def test_the_text_is_a_flake() -> None:
    """The flake names hyperhive's, the agent's files in the store, and what the system is of."""
    assert render(FLAKE) == TEXT


def test_what_nix_cannot_hold_is_refused() -> None:
    """No part of a flake is silently left out."""
    with pytest.raises(ValueError, match="NUL"):
        render(replace(FLAKE, hyperhive="path:/a\0b"))


@needs_nix
def test_real_nix_builds_it_from_the_store_alone(nix: OwnNix, tmp_path: Path) -> None:
    """Nix builds the inputs that the lock file names, although nothing of them is left elsewhere, and adds none."""
    hyperhive, source = tmp_path / "hyperhive", tmp_path / "source"
    hyperhive.mkdir()
    (hyperhive / "flake.nix").write_text(STAND_IN)
    source.mkdir()
    (source / "agent.nix").write_text("{ proposed = 1; }\n")
    begun = lock(json.loads(nix.flake("flake", "metadata", "--json", path_reference(hyperhive))))
    assert begun is not None
    path = nix.run("nix-store", "--add", str(source)).strip()
    nar_hash = nix.flake("hash", "path", path).strip()
    (tmp_path / "flake").mkdir()
    written = json.dumps(with_agent(begun, Path(path), nar_hash))
    (tmp_path / "flake/flake.lock").write_text(written)
    flake = replace(FLAKE, hyperhive=path_reference(hyperhive), source=Path(path))
    (tmp_path / "flake/flake.nix").write_text(render(flake))
    hyperhive.rename(tmp_path / "gone")
    (source / "agent.nix").write_text("{ evil = 1; }\n")

    reference = path_reference(tmp_path / "flake")
    nix.flake("build", "--no-update-lock-file", "--out-link", str(tmp_path / "out"), f"{reference}#{ATTRIBUTE}")

    assert (tmp_path / "out/agent.nix").read_text() == "{ proposed = 1; }\n"
    hyperhive_hash = json.loads(written)["nodes"]["hyperhive"]["locked"]["narHash"]
    assert (tmp_path / "out/recipe").read_text() == f"{hyperhive_hash} agent\n"
    assert (tmp_path / "flake/flake.lock").read_text() == written


@needs_nix
def test_the_systems_of_agents_do_not_hold_the_files(nix: OwnNix, tmp_path: Path) -> None:
    """The real `lib.agentSystem` gives an agent.nix its own files, and nothing that differs between two evaluations."""
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/agent.nix").write_text("{ }")
    call = (
        f'import {ROOT}/nix/agent-system.nix {{ self.narHash = "h"; nixpkgs.lib = {{'
        " nixosSystem = given: given; optional = condition: one: if condition then [ one ] else [ ]; }; }"
    )
    expression = (
        f'let given = {call} {{ system = "x"; name = "ada"; kind = "agent"; agent = {tmp_path}/agent; }};'
        " in [ (builtins.attrNames given.specialArgs) given.specialArgs.hive ]"
    )
    names, hive = nix.evaluate(expression)
    assert names == ["hive"] and hive.pop("agent").endswith("-agent")
    assert hive == {"container": "h-ada", "name": "ada", "program": "hive-ag3nt", "recipe": "h"}
    modules = {path.name: path.read_text() for path in (ROOT / "nix/agent").glob("*.nix")}
    assert [name for name, text in modules.items() if "hive.agent" in text] == ["options.nix"]
    assert (
        modules["options.nix"].count("hive.agent") == 1
        and 'toml = hive.agent + "/agent.toml";' in modules["options.nix"]
    )
