"""Where an agent CLI is found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


class NoProgram(Exception):
    """The agent CLI is not installed; the text says where it was looked for, and what to do."""


def named(variables: Mapping[str, str], setting: str) -> Path | None:
    """The program that the variable `setting` names; None if it is not set. Raises NoProgram."""
    path = variables.get(setting, "")
    if not path:
        return None
    if Path(path).is_file() and os.access(path, os.X_OK):
        return Path(path)
    raise NoProgram(f"{setting} names {path}, which is no program that can be run here")


def find(variables: Mapping[str, str], name: str, setting: str, package: str) -> Path:
    """The program that the variable `setting` names, or else `name` on the PATH. `package` is its npm package.

    Raises NoProgram.
    """
    chosen = named(variables, setting)
    if chosen is not None:
        return chosen
    found = shutil.which(name, path=variables.get("PATH", os.defpath))
    if found is None:
        raise NoProgram(
            f"{name} was not found: no {setting}, and no `{name}` on the PATH. Install it where agents see it "
            f"(npm install --global {package}, or a package in agent.nix), or choose another backend in agent.toml"
        )
    return Path(found)
