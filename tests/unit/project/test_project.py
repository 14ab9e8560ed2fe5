"""The project as a whole: its layout, its dependencies and its developer commands."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[3]
PACKAGES = ("hive_core", "hive_agent", "hive_manager")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = [line for line in (ROOT / "tests/constraints.txt").read_text().splitlines() if not line.startswith("#")]
COMMANDS = ("demo", "test", "bench", "soak", "lint")

MAX_LINES = 400
LONGER = {
    # No code, but each name of the protocol twice: for type checkers, and for who asks for it when it runs.
    "hive_core/protocol/__init__.py": 500,
}
"""Modules that may be longer than the others."""


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def text_files() -> Iterator[tuple[Path, str]]:
    """Every text file of the project, but nothing that tools leave behind."""
    tops = ["README.md", "pyproject.toml", "flake.nix", "flake.lock", "dev", ".ci", "docs", "nix", "tests", *PACKAGES]
    for top in tops:
        path = ROOT / top
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                try:
                    yield file.relative_to(ROOT), file.read_text()
                except UnicodeDecodeError:
                    continue


def run_dev(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ROOT / "dev"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_modules_are_short() -> None:
    """No module of the three packages is so long that it must hold more than one idea."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert {name: n for name, n in lengths.items() if n > LONGER.get(name, MAX_LINES)} == {}


def test_modules_say_what_they_are_for() -> None:
    """Every module with code in it starts with a docstring."""
    silent = []
    for path in modules():
        tree = ast.parse(path.read_text())
        if tree.body and not ast.get_docstring(tree):
            silent.append(str(path.relative_to(ROOT)))
    assert silent == []


def test_public_class_names_are_unique() -> None:
    """A class name means one class in the whole project."""
    found: dict[str, list[str]] = {}
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


SHARED_THREADS = (
    # A process of its own, or the start and the end of the daemon.
    "hive_core/doctor",
    "hive_core/runtimes/nixos/host_checks.py",
    "hive_core/infra/database/connection.py",
    "hive_core/infra/systemd/dbus.py",
    # Builds and intakes, of which few run at a time.
    # The command line is a process of its own.
    "hive_core/cli",
    "hive_core/gate/intake",
    "hive_core/runtimes/local/builder.py",
    "hive_core/runtimes/local/config_check.py",
    "hive_core/runtimes/nixos/build",
)
"""Modules that may use asyncio's own threads, which nothing that others wait for may share."""


def test_blocking_work_has_threads_of_its_kind() -> None:
    """Only builds and intakes use the threads that all of asyncio shares (`hive_core/infra/concurrency/threads.py`)."""
    shared = re.compile(r"\bto_thread\(|run_in_executor\(\s*None")
    using = {str(path.relative_to(ROOT)) for path in modules() if shared.search(path.read_text())}
    others = {path for path in using if path.startswith("hive_core") and not path.startswith(SHARED_THREADS)}
    assert others == set()


def test_nothing_is_tied_to_one_machine() -> None:
    """No file names a package registry's host or a path of the machine on which it was written."""
    hosts = ("pypi", "pythonhosted", "npmjs")
    pattern = re.compile(rf"\b({'|'.join(hosts)})\.org|(?<![\w.}}/])/(work|tmp/venv|tmp/v)/")
    # What agents may reach names the hosts of registries.
    named = "hive_core/protocol/network/named_sets.py"
    found = [
        f"{path}: {match.group()}"
        for path, text in text_files()
        for match in pattern.finditer(text)
        if str(path) != named
    ]
    assert found == []


def test_base_install_needs_no_compiler() -> None:
    """What has no wheels (D-Bus, GLib) is in the extra `nixos` and nowhere else."""
    extras = PROJECT["optional-dependencies"]
    compiled = {canonicalize_name(Requirement(line).name) for line in extras["nixos"]}
    others = [*PROJECT["dependencies"], *extras["claude"], *extras["dev"]]
    assert compiled == {"pydbus", "pygobject"}
    assert compiled.isdisjoint(canonicalize_name(Requirement(line).name) for line in others)


def pins_for(girepository: str) -> list[str]:
    """The pins that depend on the girepository of the machine's GLib."""
    text = (ROOT / f"tests/constraints-girepository-{girepository}.txt").read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("lines", [CONSTRAINTS, pins_for("1.0"), pins_for("2.0")])
def test_constraints_are_plain_pins(lines: list[str]) -> None:
    """The constraints are only exact versions, one for each package: no index, no path, no marker."""
    pins = [re.fullmatch(r"([a-z0-9-]+)==[0-9a-z.]+", line) for line in lines]
    assert [line for line, pin in zip(lines, pins, strict=True) if pin is None] == []
    names = [pin.group(1) for pin in pins if pin]
    assert names == sorted(set(names))


def test_the_girepository_decides_on_pygobject() -> None:
    """PyGObject before 3.52 is built against girepository 1.0, from 3.52 on against 2.0, which GLib has since 2.80."""
    versions = {name: Version(pins_for(name)[0].partition("==")[2]) for name in ("1.0", "2.0")}
    assert versions["1.0"] < Version("3.52") <= versions["2.0"]


@pytest.mark.parametrize("girepository", ["1.0", "2.0"])
@pytest.mark.parametrize("extra", ["", "claude", "dev", "nixos"])
def test_constraints_cover_the_dependencies(extra: str, girepository: str) -> None:
    """Every direct dependency is pinned, to a version that pyproject.toml allows, whichever GLib a machine has."""
    pinned = dict(line.split("==") for line in [*CONSTRAINTS, *pins_for(girepository)])
    wanted = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name != PROJECT["name"]:
            assert name in pinned, f"{name} is not in tests/constraints.txt; its head says how to renew it"
            assert pinned[name] in requirement.specifier


def test_flake_lock_fits_the_flake() -> None:
    """The locked nixpkgs is the branch that flake.nix asks for, by commit and hash."""
    nixpkgs = json.loads((ROOT / "flake.lock").read_text())["nodes"]["nixpkgs"]
    original = nixpkgs["original"]
    assert f"github:{original['owner']}/{original['repo']}/{original['ref']}" in (ROOT / "flake.nix").read_text()
    assert re.fullmatch(r"[0-9a-f]{40}", nixpkgs["locked"]["rev"])
    assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", nixpkgs["locked"]["narHash"])


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",)])
def test_dev_explains_itself(arguments: tuple[str, ...]) -> None:
    """`./dev` alone and `./dev help` name every command and set nothing up."""
    done = run_dev(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert [command for command in COMMANDS if f"\n  {command} " not in done.stdout] == []


def test_dev_refuses_an_unknown_command() -> None:
    """A command that is not there is refused by name, with the list of those that are."""
    done = run_dev("tset")
    assert done.returncode == 2
    assert "'tset'" in done.stderr
    assert "usage: ./dev" in done.stderr
