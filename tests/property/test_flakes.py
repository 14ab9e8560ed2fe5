"""Whatever is rendered into Nix comes back out of real Nix as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hive_core.protocol import Kind
from hive_core.runtimes.nixos.build.flake import AgentFlake, nix_value, render
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix

pytestmark = needs_nix

_PIECES = (
    "${",
    "$",
    "$$",
    "''",
    '"',
    "\\",
    "\n",
    "\r",
    "\r\n",
    "\t",
    "}",
    "/*",
    "#",
    "<nixpkgs>",
    "\ufeff",
    "\u2028",
    '${abort ""}',
    "../..",
)
texts = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.lists(st.one_of(st.sampled_from(_PIECES), st.text("ab${}'\"\\ \n", max_size=4)), max_size=12).map("".join),
)
numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from((-(2**63), 2**63 - 1, 0, 8100)))
sources = st.from_regex(r"[0-9a-z]{32}-[0-9A-Za-z+._?=-]{1,20}", fullmatch=True).map(
    lambda name: Path("/nix/store", name.replace("?", "").replace("+", "").replace("=", ""))
)
kinds: st.SearchStrategy[Kind] = st.sampled_from(("agent", "manager"))
flakes = st.builds(
    AgentFlake,
    hyperhive=texts,
    system=texts,
    name=texts,
    kind=kinds,
    source=sources,
    commit=texts,
)

# A process of Nix takes longer than a thousand values: few runs, each with many.
_RUNS = max(5, settings().max_examples // 10)


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnNix]:
    yield OwnNix(tmp_path_factory.mktemp("nix"))


@settings(max_examples=_RUNS)
@given(st.lists(st.one_of(texts, numbers, st.booleans()), min_size=50, max_size=400))
def test_a_value_is_read_back(nix: OwnNix, values: list[str | int | bool]) -> None:
    """Rendering a value and evaluating it gives the value, of the same type."""
    read = nix.evaluate(f"[ {' '.join(map(nix_value, values))} ]")
    assert [(type(found), found) for found in read] == [(type(found), found) for found in values]


@settings(max_examples=_RUNS)
@given(st.lists(flakes, min_size=10, max_size=40))
def test_a_rendered_flake_evaluates(nix: OwnNix, rendered: list[AgentFlake]) -> None:
    """Every flake evaluates against a stand-in of hyperhive's that gives back what it is called with, and its inputs
    are the references that were meant.
    """
    for number, flake in enumerate(rendered):
        home = nix.directory / f"flake{number}"
        home.mkdir(parents=True, exist_ok=True)
        (home / "flake.nix").write_bytes(render(flake).encode())
    expression = (
        "let read = file: let flake = import file; in {"
        " inherit (flake) inputs;"
        ' called = (flake.outputs { self = 1; agent = "files"; hyperhive.lib.agentSystem = given: given; })'
        ".nixosConfigurations.container; }; in map read "
        f"[ {' '.join(f'./flake{number}/flake.nix' for number in range(len(rendered)))} ]"
    )
    for flake, found in zip(rendered, nix.evaluate(expression), strict=True):
        assert found == _meant(flake)


def _meant(flake: AgentFlake) -> dict[str, Any]:
    agent = f"path:{flake.source}"
    return {
        "inputs": {"hyperhive": {"url": flake.hyperhive}, "agent": {"url": agent, "flake": False}},
        "called": {"system": flake.system, "name": flake.name, "kind": flake.kind, "agent": "files"},
    }
