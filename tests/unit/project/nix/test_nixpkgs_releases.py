"""What nix/ takes from nixpkgs, compared with what releases of nixpkgs have."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tree_sitter import Node

from tests.unit.project.nix.nix_grammar import binding, bindings, parse, text, walk

ROOT = Path(__file__).parents[4]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGE = parse(ROOT / "nix" / "package.nix")
OWN = parse(ROOT / "nix" / "python" / "default.nix")
DATA = tomllib.loads(Path(__file__).with_name("nixpkgs_releases.toml").read_text())


class Range(NamedTuple):
    """A range of versions that one package asks of another."""

    asked_by: str
    requirement: Requirement


def taken(root: Node) -> set[str]:
    """Return the attributes of python3Packages that a file selects."""
    found = (re.match(r"python3Packages\.([\w-]+)", text(node)) for node in walk(root))
    return {match[1] for match in found if match}


def functions() -> set[str]:
    """Return the attributes of python3Packages that are functions, which own packages inherit from it."""
    found = [node for node in walk(OWN) if node.type == "inherit_from"]
    return {text(name) for node in found for name in walk(node) if name.type == "identifier"}


def strings(value: Node) -> list[str]:
    """Return the strings of a list."""
    return [text(node) for node in walk(value) if node.type == "string_fragment"]


def names() -> set[str]:
    """Return the Python packages that nix/ takes from nixpkgs."""
    return (taken(PACKAGE) | taken(OWN)) - functions()


def programs() -> set[str]:
    """Return the agent CLIs that nix/ takes from nixpkgs."""
    found = binding(parse(ROOT / "nix" / "agent" / "backends.nix"), "programs")
    return {text(value).removeprefix("pkgs.") for _, value in bindings(found)}


def wheels() -> Iterator[tuple[str, str, list[str]]]:
    """Yield name, version and relaxed requirements of the packages that nix/ makes from wheels."""
    for node in walk(OWN):
        function = node.child_by_field_name("function")
        argument = node.child_by_field_name("argument")
        if function is not None and argument is not None and text(function) == "wheel":
            parts = dict(bindings(argument))
            relaxed = strings(parts["relaxed"]) if "relaxed" in parts else []
            yield text(parts["pname"]).strip('"'), text(parts["version"]).strip('"'), relaxed


def unrelaxed(asked_by: str, lines: Iterable[str], relaxed: list[str]) -> Iterator[Range]:
    """Yield the requirements that Nix checks when it has built a package."""
    for line in lines:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) not in relaxed:
            yield Range(asked_by, requirement)


def ranges() -> list[Range]:
    """Return what the project, its build and its wheels ask of packages that come from nixpkgs."""
    found = list(unrelaxed("the build", PROJECT["build-system"]["requires"], []))
    found += unrelaxed("hyperhive", PROJECT["project"]["dependencies"], strings(binding(PACKAGE, "pythonRelaxDeps")))
    for extra, lines in PROJECT["project"]["optional-dependencies"].items():
        found += unrelaxed(f"hyperhive[{extra}]", lines, [])
    for name, _, relaxed in wheels():
        found += unrelaxed(name, requires(name) or [], relaxed)
    return [one for one in found if canonicalize_name(one.requirement.name) in names()]


def applies(requirement: Requirement, python: str) -> bool:
    """Return whether the requirement holds on Linux with this Python, without extras."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def problems(release: dict[str, Any]) -> list[str]:
    """Return what keeps the package from being built with a release, as far as its versions are known."""
    trees = [DATA["trees"][release[key]] for key in ("from", "to") if key in release]
    known = release.get("known", {})
    found = [f"{name} is missing" for name in release.get("absent", []) if name in names()]
    for tree in trees:
        found += [f"{name} is missing" for name in names() - tree["versions"].keys() - known.keys()]
        found += [f"{name} is missing" for name in programs() - {*tree["programs"], *release.get("programs", [])}]
    ends = [tree["versions"] | known for tree in trees[:1]] + [tree["versions"] for tree in trees[1:]]
    for asked_by, requirement in ranges():
        name = canonicalize_name(requirement.name)
        if any(applies(requirement, python) for python in release["python"]):
            versions = [versions[name] for versions in ends or [known] if name in versions]
            found += [
                f"{asked_by} asks for {requirement}, not {one}" for one in versions if one not in requirement.specifier
            ]
    return sorted(set(found))


def test_needs_are_found() -> None:
    """The names are read from both files, and the ranges from the project and from each of its wheels."""
    assert {"setuptools", "aiohttp", "typing-inspection", "pyjwt", "pygobject3"} <= names()
    assert not {"buildPythonPackage", "fetchPypi"} & names()
    assert programs() >= {"claude-code", "codex"}
    asking = {"the build", "hyperhive", "hyperhive[nixos]", "hyperhive[ssh]", *(name for name, _, _ in wheels())}
    assert {one.asked_by for one in ranges()} == asking
    relaxed = set(strings(binding(PACKAGE, "pythonRelaxDeps")))
    assert relaxed
    assert not relaxed & {one.requirement.name for one in ranges() if one.asked_by == "hyperhive"}


@pytest.mark.parametrize(("name", "pinned"), [(name, pinned) for name, pinned, _ in wheels()])
def test_wheels_are_those_of_the_tests(name: str, pinned: str) -> None:
    """Nix makes the package from the version that the tests run with, whose requirements are compared here."""
    assert version(name) == pinned


@pytest.mark.parametrize("release", [name for name, one in DATA["releases"].items() if one["builds"]])
def test_releases_that_build(release: str) -> None:
    """A release that is said to build the package has every package that it takes, in a version that is asked for."""
    assert problems(DATA["releases"][release]) == []


@pytest.mark.parametrize("release", [name for name, one in DATA["releases"].items() if not one["builds"]])
def test_releases_that_do_not_build(release: str) -> None:
    """A release that is said not to build the package lacks something that is still asked for."""
    assert any("typing-inspection" in problem for problem in problems(DATA["releases"][release]))


def test_the_locked_release() -> None:
    """The nixpkgs of the project's own flake is one that builds the package."""
    found = re.search(r'nixpkgs\.url = "github:NixOS/nixpkgs/nixos-([^"]+)"', (ROOT / "flake.nix").read_text())
    assert found is not None
    assert DATA["releases"][found[1]]["builds"] is True


def test_releases_are_documented() -> None:
    """The page says of the same releases whether they build the package, and why."""
    rows = re.findall(
        r"^\| `?([\w.]+)`? \| (yes|no) \| (.+) \|$", (ROOT / "docs" / "nixos.md").read_text(), re.MULTILINE
    )
    data = {name: ("yes" if one["builds"] else "no", one["why"]) for name, one in DATA["releases"].items()}
    assert {name: (builds, why) for name, builds, why in rows} == data
