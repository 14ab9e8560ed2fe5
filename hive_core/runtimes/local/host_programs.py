"""The programs of this host that agents of the local runtime have, by the names of their packages in nixpkgs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

from hive_core.runtimes.agent_environment import SEARCH_PATH

_PROGRAMS: Mapping[str, str] = {
    "bun": "bun",
    "clang": "clang",
    "cmake": "cmake",
    "dotnet-sdk": "dotnet",
    "erlang": "erl",
    "gcc": "gcc",
    "ghc": "ghc",
    "gnumake": "make",
    "jdk": "javac",
    "jre": "java",
    "maven": "mvn",
    "nodejs": "node",
    "openssl": "openssl",
    "php": "php",
    "pnpm": "pnpm",
    "postgresql": "psql",
    "python": "python3",
    "python3": "python3",
    "ripgrep": "rg",
    "rustc": "rustc",
    "sqlite": "sqlite3",
    "yarn": "yarn",
}
"""Programs by package, for packages that are not named like their program. A version such as nodejs_22 is left out."""


def missing_programs(packages: Sequence[str], path: str = SEARCH_PATH) -> list[str]:
    """Return the packages whose program is not on `path`, with the program if that has another name."""
    missing = []
    for package in dict.fromkeys(packages):
        program = _program_of(package)
        if shutil.which(program, path=path) is None:
            missing.append(package if program == package else f"{package} (the program {program})")
    return missing


def _program_of(package: str) -> str:
    """Return the program that a package is wanted for; the last part of its name if that is not known."""
    name = package.rpartition(".")[2]
    stem = name.split("_")[0].rstrip("0123456789") or name
    return _PROGRAMS.get(name) or _PROGRAMS.get(stem) or name
