"""Applied repositories for the tests of this directory."""

from __future__ import annotations

from collections.abc import Mapping

from hive_core.git.idents import Person
from hive_core.infra.git.repository import Repository
from hive_core.layout import Layout
from hive_core.runtimes.base import BuildOrder

NIX = b"{ pkgs, ... }:\n{\n  environment.systemPackages = [ pkgs.git ];\n}\n"
FILES: Mapping[str, bytes] = {"agent.nix": NIX, "agent.toml": b'backend = "scripted"\n', "prompt.md": b"You help.\n"}
ADA = Person("ada", "ada@hive")


def order(layout: Layout, files: Mapping[str, bytes], name: str = "ada", when: int = 1_700_000_000) -> BuildOrder:
    """An order to build a commit of `files`, which is in the agent's applied repository then."""
    path = layout.applied_repository(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Repository.init(path) as repository:
        commit = repository.write_commit(files, parents=[], author=ADA, when=when, message="A change\n")
    return BuildOrder(name, "agent", 1, path, commit)
