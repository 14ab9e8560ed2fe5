"""The lock file that a build starts with: hyperhive and all of its inputs, one level further down."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hive_core.runtimes.nixos.build.flake import lock, with_agent
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix

LOCKED = {"type": "path", "path": "/hyperhive", "narHash": "sha256-AAAA", "lastModified": 1}
ORIGINAL = {"type": "indirect", "id": "hyperhive"}
NIXPKGS = {"locked": {"type": "path", "path": "/n", "narHash": "sha256-BBBB"}, "original": {"id": "n"}}


def metadata(nodes: dict[str, Any], root: str = "root") -> dict[str, Any]:
    locks = {"nodes": nodes, "root": root, "version": 7}
    return {"locked": LOCKED, "original": ORIGINAL, "locks": locks, "path": "/nix/store/x-source"}


def test_hyperhive_becomes_an_input() -> None:
    """Hyperhive is locked to what was fetched, and its own inputs to what its lock file says."""
    assert lock(metadata({"nixpkgs": NIXPKGS, "root": {"inputs": {"nixpkgs": "nixpkgs"}}})) == {
        "nodes": {
            "hyperhive": {"inputs": {"nixpkgs": "nixpkgs"}, "locked": LOCKED, "original": ORIGINAL},
            "nixpkgs": NIXPKGS,
            "root": {"inputs": {"hyperhive": "hyperhive"}},
        },
        "root": "root",
        "version": 7,
    }


def test_only_what_a_lock_file_may_hold_is_written() -> None:
    """Keys of Nix's own in what it tells of a flake end Nix since 2.25 when they stand in a file."""
    told = metadata({"nixpkgs": {**NIXPKGS, "info": {}}, "root": {"inputs": {"nixpkgs": "nixpkgs"}}})
    told["locked"] = {**LOCKED, "__final": True, "__other": 1}
    told["original"] = {**ORIGINAL, "__final": True}
    made = lock(told)
    assert made is not None
    assert made["nodes"]["hyperhive"]["locked"] == LOCKED
    assert made["nodes"]["hyperhive"]["original"] == ORIGINAL
    assert made["nodes"]["nixpkgs"] == NIXPKGS


def test_ways_from_the_root_are_a_step_longer() -> None:
    """`follows` and relative flakes are told from the root, which hyperhive is no more."""
    nodes = {
        "nixpkgs": NIXPKGS,
        "tool": {**NIXPKGS, "inputs": {"nixpkgs": ["nixpkgs"]}, "parent": []},
        "root": {"inputs": {"nixpkgs": "nixpkgs", "tool": "tool", "same": ["tool", "nixpkgs"]}},
    }
    made = lock(metadata(nodes))
    assert made is not None
    assert made["nodes"]["tool"]["inputs"] == {"nixpkgs": ["hyperhive", "nixpkgs"]}
    assert made["nodes"]["tool"]["parent"] == ["hyperhive"]
    assert made["nodes"]["hyperhive"]["inputs"]["same"] == ["hyperhive", "tool", "nixpkgs"]


def test_nodes_keep_apart() -> None:
    """An input of hyperhive's that is itself called hyperhive, or root, keeps its place."""
    nodes = {"hyperhive": NIXPKGS, "root": NIXPKGS, "top": {"inputs": {"hyperhive": "hyperhive", "other": "root"}}}
    made = lock(metadata(nodes, root="top"))
    assert made is not None
    assert made["nodes"]["hyperhive"] == NIXPKGS
    assert made["nodes"]["root"] == NIXPKGS
    assert made["root"] == "root_2"
    assert made["nodes"]["root_2"] == {"inputs": {"hyperhive": "hyperhive_2"}}
    assert made["nodes"]["hyperhive_2"]["inputs"] == {"hyperhive": "hyperhive", "other": "root"}


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"locks": None},
        metadata({}) | {"locks": {"nodes": {"root": {}}, "root": "root", "version": 8}},
        metadata({}),
        metadata({"root": {}}) | {"locked": {"type": "path"}},
        metadata({"root": {"inputs": []}}),
        metadata({"root": {"inputs": {"a": "a"}}, "a": {"inputs": {"back": "root"}}}),
        metadata({"root": {"inputs": {"a": 7}}}),
    ],
)
def test_another_form_is_left_to_nix(found: dict[str, Any]) -> None:
    """What is not understood makes no lock file, rather than a wrong one."""
    assert lock(found) is None


def test_the_agents_files_are_added() -> None:
    """The files are pinned by their path in the store and their hash; a node of that name keeps its place."""
    begun = lock(metadata({"agent": NIXPKGS, "root": {"inputs": {"agent": "agent"}}}))
    assert begun is not None
    made = with_agent(begun, Path("/nix/store/x-source"), "sha256-CCCC")
    reference = {"type": "path", "path": "/nix/store/x-source"}
    assert made["nodes"]["agent"] == NIXPKGS
    assert made["nodes"]["agent_2"] == {
        "flake": False,
        "locked": {**reference, "narHash": "sha256-CCCC"},
        "original": reference,
    }
    assert made["nodes"]["root"] == {"inputs": {"hyperhive": "hyperhive", "agent": "agent_2"}}
    assert begun["nodes"].keys() == {"hyperhive", "agent", "root"}


@needs_nix
def test_real_nix_takes_it_as_it_is(tmp_path: Path) -> None:
    """Nix, given the lock file, changes nothing in it: inputs that follow others and nested flakes included."""
    nix = OwnNix(tmp_path / "nix")
    flakes = {
        "leaf": "{ outputs = { self }: { leaf = 1; }; }",
        "tool": '{ inputs.leaf.url = "path:LEAF"; outputs = { self, leaf }: { inherit (leaf) leaf; }; }',
        "hive": (
            '{ inputs.leaf.url = "path:LEAF"; inputs.tool.url = "path:TOOL"; inputs.tool.inputs.leaf.follows = "leaf";'
            " outputs = { self, leaf, tool }: { value = leaf.leaf + tool.leaf; }; }"
        ),
        "agent": '{ inputs.hyperhive.url = "path:HIVE"; outputs = { hyperhive, ... }: { two = hyperhive.value; }; }',
    }
    for name, text in flakes.items():
        (tmp_path / name).mkdir()
        there = re.sub(r"path:([A-Z]+)", lambda found: f"path:{tmp_path}/{found[1].lower()}", text)
        (tmp_path / name / "flake.nix").write_text(there)
    made = lock(json.loads(nix.flake("flake", "metadata", "--json", f"path:{tmp_path}/hive")))
    file = tmp_path / "agent/flake.lock"
    file.write_text(json.dumps(made))

    assert nix.flake("eval", "--no-update-lock-file", "--json", f"path:{tmp_path}/agent#two").strip() == "2"
    assert json.loads(file.read_text()) == made
