"""Every .nix file of the project is Nix, and the lock pins what the flake names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.project.nix.nix_grammar import parse, text, walk

ROOT = Path(__file__).parents[4]
FILES = sorted([ROOT / "flake.nix", *(ROOT / "nix").rglob("*.nix")])


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_grammar(file: Path) -> None:
    """The file has no syntax error, also where Nix is not installed."""
    wrong = [f"line {node.start_point.row + 1}" for node in walk(parse(file)) if node.is_error or node.is_missing]
    assert wrong == []


def test_nix_itself() -> None:
    """Where Nix is installed, it takes every file, too, with every name in it bound."""
    program = shutil.which("nix-instantiate")
    if program is None:
        assert len(FILES) > 10  # the grammar has looked at them
        return
    done = subprocess.run([program, "--parse", *FILES], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_that_are_named_exist(file: Path) -> None:
    """A path in a file leads to something in the project."""
    named = [text(node) for node in walk(parse(file)) if node.type == "path_expression" and "${" not in text(node)]
    assert [path for path in named if not (file.parent / path).exists()] == []


def test_lock() -> None:
    """flake.lock pins every input of flake.nix, each to one revision and one content."""
    lock = json.loads((ROOT / "flake.lock").read_text())
    named = dict(re.findall(r'inputs\.(\w+)\.url = "github:([^"]+)"', (ROOT / "flake.nix").read_text()))
    nodes = lock["nodes"]
    assert lock["version"] == 7
    assert set(nodes[lock["root"]]["inputs"]) == set(named)
    assert set(nodes) == {lock["root"], *nodes[lock["root"]]["inputs"].values()}
    for name, url in named.items():
        node = nodes[nodes[lock["root"]]["inputs"][name]]
        original, locked = node["original"], node["locked"]
        assert "/".join([original["owner"], original["repo"], original["ref"]]) == url
        assert [locked[key] for key in ("owner", "repo", "type")] == [original[k] for k in ("owner", "repo", "type")]
        assert re.fullmatch(r"[0-9a-f]{40}", locked["rev"])
        assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", locked["narHash"])
        assert isinstance(locked["lastModified"], int)


def nix_value(expression: str) -> Any:
    """The value of an expression; None where Nix is not installed."""
    program = shutil.which("nix-instantiate")
    if program is None:
        return None
    command = [program, "--eval", "--strict", "--json", "-E", expression]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("given", "used"), [("", "host"), ('narHash = "a";', "host"), ('narHash = "b";', "locked")])
def test_nixpkgs_of_agents(given: str, used: str) -> None:
    """The host's store has the nixpkgs that agents are built with: the locked one, whatever `follows` gives."""
    found = nix_value(f"""
      import {ROOT}/nix/locked-nixpkgs.nix {{
        nixpkgs = {{ outPath = "host"; {given} }};
        locked.narHash = "a";
        fetchTree = locked: {{ outPath = assert locked.narHash == "a"; "locked"; }};
      }}
    """)
    assert found in (used, None)


FAKE_NIXPKGS = """
  { system, overlays, config }:
  let
    package = pname: {
      inherit pname;
      place = if pname != "claude-code" || config.allowUnfreePredicate { inherit pname; } then pname else "refused";
    };
  in
  assert system == "x86_64-linux" && overlays == [ ] && !config.allowUnfreePredicate (package "vault");
  { claude-code = package "claude-code"; codex = package "codex"; gemini-cli = package "gemini-cli"; }
"""


@pytest.mark.parametrize(
    ("backends", "programs"),
    [
        ("[ ]", []),
        ('[ "codex" "codex" ]', ["codex"]),
        ('[ "claude" "gemini" ]', ["claude-code", "gemini-cli"]),
    ],
)
def test_clis_of_agents(backends: str, programs: list[str], tmp_path: Path) -> None:
    """The host's store has the CLIs that are named, and nothing else that is not free software is allowed."""
    nixpkgs = tmp_path / "nixpkgs.nix"
    nixpkgs.write_text(FAKE_NIXPKGS)
    found = nix_value(f"""
      let
        lib = {{
          inherit (builtins) any;
          importJSON = file: builtins.fromJSON (builtins.readFile file);
          mkIf = condition: value: if condition then value else {{ }};
          getName = package: package.pname;
          unique = builtins.foldl' (found: one: if builtins.elem one found then found else found ++ [ one ]) [ ];
        }};
        module = import {ROOT}/nix/host/store.nix {{ self.inputs.nixpkgs.outPath = {nixpkgs}; }} {{
          inherit lib;
          config.services.hyperhive = {{ enable = true; agents.backends = {backends}; }};
          pkgs.stdenv.hostPlatform.system = "x86_64-linux";
        }};
      in
      map (one: one.place or (baseNameOf one)) module.config.system.extraDependencies
    """)
    assert found in (["nixpkgs.nix", *programs], None)
