"""Real Nix with a store of its own: nothing of the machine's store or settings is used or changed, and no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

FEATURES = ("--extra-experimental-features", "nix-command flakes")
_CONF = """\
build-users-group =
sandbox = false
substituters =
flake-registry =
experimental-features = nix-command flakes
"""

needs_nix = pytest.mark.skipif(shutil.which("nix") is None, reason="Nix is not installed (Debian package nix-bin)")


class OwnNix:
    """Nix that keeps everything below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = directory / "store"
        (directory / "conf").mkdir(parents=True)
        (directory / "home").mkdir()
        (directory / "conf/nix.conf").write_text(_CONF)
        self.variables = {
            "NIX_CONF_DIR": str(directory / "conf"),
            "NIX_STORE_DIR": str(self.store),
            "NIX_STATE_DIR": str(directory / "var/nix"),
            "NIX_LOCALSTATE_DIR": str(directory / "var"),
            "NIX_LOG_DIR": str(directory / "var/log"),
            "HOME": str(directory / "home"),
        }
        self.environment = {"PATH": os.environ["PATH"], **self.variables, "GIT_CONFIG_NOSYSTEM": "1"}

    def run(self, *argv: str) -> str:
        """What it prints; what it says on standard error is the message if it fails."""
        done = subprocess.run(argv, capture_output=True, text=True, env=self.environment, timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(argv)[:300]}\n{done.stderr}"
        return done.stdout

    def evaluate(self, expression: str) -> Any:
        """The value of an expression."""
        file = self.directory / "expression.nix"
        file.write_bytes(expression.encode())
        return json.loads(self.run("nix-instantiate", "--eval", "--strict", "--json", str(file)))

    def flake(self, *arguments: str) -> str:
        """`nix` with flakes."""
        return self.run("nix", *FEATURES, *arguments)

    def add(self, name: str, script: str, inputs: Sequence[str] = ()) -> str:
        """Build something with a shell script that writes `$out`; `inputs` are store paths that it refers to."""
        expression = (
            f'derivation {{ name = "{name}"; system = builtins.currentSystem; builder = "/bin/sh";'
            f" args = [ \"-euc\" ''PATH=/usr/bin:/bin\n{script}'' ];"
            f" inputs = map builtins.storePath [ {' '.join(inputs)} ]; }}"
        )
        file = self.directory / "derivation.nix"
        file.write_text(expression)
        # `--no-out-link`: no root, so that it is garbage until somebody keeps it.
        return self.run("nix-build", "--no-out-link", str(file)).strip()
