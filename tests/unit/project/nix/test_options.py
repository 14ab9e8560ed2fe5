"""docs/nixos.md and the modules: what one has, the other has too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tree_sitter import Node

from tests.unit.project.nix.nix_grammar import binding, bindings, parse, text

ROOT = Path(__file__).parents[4]
NIX = ROOT / "nix"
PAGE = ROOT / "docs" / "nixos.md"

HOST = ("option of the host", [("host-module.nix", "services.hyperhive"), ("host/settings.nix", "services.hyperhive")])
AGENT = ("option of an agent", [("agent/options.nix", "hyperhive")])


def documented(column: str) -> dict[str, str]:
    """Options and defaults of the table whose first column has this name."""
    found = re.search(rf"^\| {column} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    assert found is not None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
    assert [row for row in rows if not row[2]] == [], "options without a meaning"
    return {row[0].strip("`"): row[1] for row in rows}


def declared(file: str, below: str) -> dict[str, str]:
    """Options that a module declares, by their names below `below`, with their defaults as a page shows them."""
    root = parse(NIX / file)
    whole = next(body for body in bodies(root) if any(name.startswith("options.") for name, _ in bindings(body)))
    found: dict[str, str] = {}
    for name, value in bindings(whole):
        if name.startswith("options."):
            found |= {f"{name.removeprefix('options.')}.{inner}": default for inner, default in options(root, value)}
    return {name.removeprefix(f"{below}.").rstrip("."): default for name, default in found.items()}


def bodies(node: Node) -> Iterator[Node]:
    """Every attribute set, the outermost first."""
    if node.type == "attrset_expression":
        yield node
    for child in node.children:
        yield from bodies(child)


def options(root: Node, value: Node) -> Iterator[tuple[str, str]]:
    """The options in what is bound to a name: one, or a set of them; "" is the name itself."""
    if value.type == "attrset_expression":
        for name, inner in bindings(value):
            for rest, default in options(root, inner):
                yield f"{name}.{rest}".rstrip("."), default
    elif value.type == "variable_expression":
        yield from options(root, binding(root, text(value)))
    else:
        function, argument = value.child_by_field_name("function"), value.child_by_field_name("argument")
        assert function is not None, text(value)
        assert argument is not None, text(value)
        if text(function).endswith("mkEnableOption"):
            yield "", "`false`"
            return
        assert text(function).endswith("mkOption"), text(value)
        parts = dict(bindings(argument))
        assert "description" in parts, f"an option without a description: {text(value)}"
        yield "", shown(parts)
        if "submodule server" in text(parts.get("type", argument)):
            inner = dict(bindings(binding(root, "server")))["options"]
            for name, default in options(root, inner):
                yield f"<name>.{name}", default


def shown(parts: dict[str, Node]) -> str:
    """A default as the page shows it: code between backticks, words as they are, nothing where there is none."""
    if "default" not in parts:
        return ""
    code = text(parts.get("defaultText", parts["default"]))
    if (found := re.fullmatch(r"(?:lib\.)?literal(MD|Expression) (?:\"(.*)\"|''(.*)'')", code, re.DOTALL)) is None:
        return f"`{code}`"
    words = found[2].replace('\\"', '"').replace("\\$", "$") if found[2] else found[3].replace("''$", "$")
    return words if found[1] == "MD" else f"`{words}`"


@pytest.mark.parametrize(("column", "files"), [HOST, AGENT], ids=["host", "agent"])
def test_options_are_documented(column: str, files: list[tuple[str, str]]) -> None:
    """Every option is in the page with its default, and the page has no other."""
    found: dict[str, str] = {}
    for file, below in files:
        found |= declared(file, below)
    assert len(found) >= 10
    assert documented(column) == found


def test_examples_are_nix(tmp_path: Path) -> None:
    """Every block of Nix in the page can be copied: it is a whole file without a syntax error."""
    blocks = re.findall(r"^```nix\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.nix"
        file.write_text(block)
        assert not parse(file).has_error, block


def test_examples_use_options_that_there_are() -> None:
    """No option of the hive's is set in the page that the modules do not have."""
    known = set(documented(HOST[0]))
    set_there = {name for name in re.findall(r"services\.hyperhive\.([A-Za-z.]+)", PAGE.read_text()) if name}
    parents = {".".join(name.split(".")[:depth]) for name in known for depth in range(1, 4)}
    freeform = {name for name in set_there if name.startswith("settings.")}
    assert set_there - known - parents - freeform == set()


def test_the_first_agent_nix() -> None:
    """What a new agent's agent.nix sets below `hyperhive` are options that there are."""
    template = (ROOT / "hive_core" / "agents" / "files" / "templates" / "agent.nix.j2").read_text()
    named = set(re.findall(r"\bhyperhive\.(\w+)", template))
    assert named
    assert named - set(documented(AGENT[0])) == set()
