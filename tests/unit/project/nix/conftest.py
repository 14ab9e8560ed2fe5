"""Tests that need nixpkgs are left out where there is none, and the last lines say so: none is skipped in silence."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_LEFT_OUT = pytest.StashKey[tuple[int, str]]()


@cache
def nixpkgs() -> tuple[Path | None, str]:
    """Where nixpkgs is: `HIVE_NIXPKGS`, or `<nixpkgs>` of NIX_PATH; else None and the reason."""
    program = shutil.which("nix-instantiate")
    if program is None:
        return None, "nix-instantiate is not installed"
    named = os.environ.get("HIVE_NIXPKGS", "")
    if named:
        path = Path(named).absolute()
        return (path, "") if (path / "nixos").is_dir() else (None, f"HIVE_NIXPKGS={named} holds no nixpkgs")
    found = subprocess.run([program, "--find-file", "nixpkgs"], check=False, capture_output=True, text=True)
    if found.returncode != 0:
        return None, "set HIVE_NIXPKGS to a nixpkgs, or have <nixpkgs> in NIX_PATH"
    return Path(found.stdout.strip()), ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is marked `nixpkgs` where it cannot run."""
    marked = [item for item in items if item.get_closest_marker("nixpkgs") and item.path.is_relative_to(HERE)]
    if not marked:
        return
    place, why = nixpkgs()
    if place is None:
        items[:] = [item for item in items if item not in marked]
        config.hook.pytest_deselected(items=marked)
        config.stash[_LEFT_OUT] = (len(marked), why)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out and why."""
    count, why = config.stash.get(_LEFT_OUT, (0, ""))
    if count:
        terminalreporter.write_line(f"{count} tests against nixpkgs left out: {why}")
