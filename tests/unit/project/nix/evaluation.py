"""Run Nix on the files beside this one that evaluate the project's modules."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.unit.project.nix.conftest import nixpkgs

ROOT = Path(__file__).parents[4]


def evaluate(file: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Evaluate the file to JSON with the nixpkgs of this run, and the Nix that is first on the PATH."""
    place, why = nixpkgs()
    assert place is not None, why
    line = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", str(Path(__file__).with_name(file))]
    line += ["--arg", "nixpkgs", str(place), "--arg", "root", str(ROOT), *arguments]
    return subprocess.run(line, check=False, capture_output=True, text=True)


def enabled_features(nix_conf: str) -> set[str]:
    """Experimental features that a nix.conf enables: its setting, and what is added to that."""
    lines = re.findall(r"^(?:extra-)?experimental-features = (.*)$", nix_conf, re.MULTILINE)
    return {feature for line in lines for feature in line.split()}
