"""Where an agent CLI is found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


class NoProgram(Exception):
    """The agent CLI is not installed; the text says where it was looked for, and what to do."""


def find(variables: Mapping[str, str], name: str, package: str) -> Path:
    """The program `name`: what `HIVE_<NAME>` says, or the one on the PATH. `package` is its npm package.

    Raises NoProgram.
    """
    setting = f"HIVE_{name.upper()}"
    named = variables.get(setting, "")
    if named:
        if Path(named).is_file() and os.access(named, os.X_OK):
            return Path(named)
        raise NoProgram(f"{setting} names {named}, which is no program that can be run here")
    found = shutil.which(name, path=variables.get("PATH", os.defpath))
    if found is None:
        raise NoProgram(
            f"{name} was not found: no {setting}, and no `{name}` on the PATH. Install it where agents see it "
            f"(npm install --global {package}, or a package in agent.nix), or choose another backend in agent.toml"
        )
    return Path(found)
