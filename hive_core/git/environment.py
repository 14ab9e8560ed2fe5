"""What every git command of the daemon runs with: nothing of the machine's or a user's configuration, no hooks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""The tree without entries; git knows it without storing it."""

SAFE: Mapping[str, str] = MappingProxyType(
    {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_DEFAULT_HASH": "sha1",
        "GIT_DEFAULT_REF_FORMAT": "files",
    }
)
"""The whole environment of a git command, not an addition to the daemon's own."""

FLAGS = (
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.attributesFile=/dev/null",
    "-c",
    "core.excludesFile=/dev/null",
    # Newer versions of git read .gitattributes from HEAD in a bare repository. That file is an agent's: with it, a
    # change could hide itself from the diff.
    "-c",
    f"attr.tree={EMPTY_TREE}",
    "-c",
    "core.fsync=all",
    "-c",
    "gc.autoDetach=false",
)
"""Goes between `git` and the command's name. What a version of git does not know it leaves alone."""
