"""Files of the agent as tar streams, which the program tar reads and writes inside the agent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hive_agent.access.refusal import Refusal
from hive_core.protocol.access.opening import Opening

_BLOCKS = "128"
"""Blocks of 512 bytes that tar writes at a time."""


class TarCommand(NamedTuple):
    """A command of tar, and the first part of every name in its stream."""

    argv: Sequence[str]
    name: str


def reading(path: str) -> TarCommand:
    """Return the command that writes `path` to stdout; a link that it names is followed. Raises Refusal `no_file`."""
    real = Path(os.path.realpath(path))
    if not os.path.lexists(real):
        raise Refusal("no_file", f"there is no {path} in the agent")
    name = real.name or "."
    return TarCommand(["tar", "-b", _BLOCKS, "--format=gnu", "-C", str(real.parent), "-cf", "-", "--", name], name)


def writing(opening: Opening) -> TarCommand:
    """Return the command that writes what arrives on stdin to the opening's path, or into it if it is a directory.

    Raises Refusal `no_directory`.
    """
    target = Path(opening.path)
    parent, name = (target, opening.name) if target.is_dir() else (target.parent, target.name)
    if parent != target and opening.into:
        raise Refusal("no_directory", f"there is no directory {target} in the agent")
    if not parent.is_dir():
        raise Refusal("no_directory", f"there is no directory {parent} in the agent")
    # The owner is the agent's root, whoever has typed; the modes are those of the files.
    return TarCommand(["tar", "-b", _BLOCKS, "-C", str(parent), "--no-same-owner", "-p", "-xf", "-"], name)
