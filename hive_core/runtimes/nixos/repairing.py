"""What an interrupted create, destroy or update has left of a container, and what is to be done about it.

`nixos-container create` writes the conf file first and sets the profile last; `destroy` removes the profile's directory
first and the conf file last. So a conf file alone is what either leaves, and `destroy` clears up after both. What is
there without a conf file was left by no program: it is taken over, since it may hold an agent's data.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hive_core.errors import HiveError, conflict
from hive_core.runtimes.nixos import replacing
from hive_core.runtimes.nixos.containers import config_files
from hive_core.runtimes.nixos.containers.inspection import Places

Condition = Literal["absent", "whole", "unfinished"]
"""`unfinished`: it has to be cleared away, and made anew."""


@dataclass(frozen=True)
class Found:
    """What there is of a container. `text` is its conf file's, None without one; `declared` if that is a link, as it
    is where the NixOS configuration declares the container. `system` is the closure that its profile leads to.
    """

    text: str | None
    declared: bool
    profile: bool
    system: str | None
    root: bool


def look(places: Places, container: str) -> Found:
    """See what there is; follows no links. Raises HiveError `container_unreadable`."""
    path = places.conf(container)
    try:
        declared = path.is_symlink()
        text = None if declared else replacing.read(path)
    except OSError as error:
        raise HiveError(
            "container_unreadable", f"cannot read {path}: {os.strerror(error.errno or 0)}", hint="see what it is"
        ) from None
    profile = places.profile(container)
    return Found(text, declared, _is_directory(profile), _system(profile), _is_directory(places.root(container)))


def condition(found: Found, container: str, mark: str, closures: Collection[str]) -> Condition:
    """What state a container is in.

    `mark` is in the conf file of what this hive has made; before it was put there, the closure (one of `closures`)
    tells. Raises `container_in_the_way` for a container that is somebody else's.
    """
    if found.declared:
        raise conflict(
            "container_in_the_way",
            f"the NixOS configuration declares a container {container} of its own",
            "rename that container, or the agent",
        )
    if found.text is None:
        return "absent"
    if is_marked(found.text, mark):
        # An update that broke off leaves the old closure, or none if the agent has removed its profile: both are put
        # right by setting it again.
        return "whole" if found.profile else "unfinished"
    if found.system is None:
        return "unfinished"
    if found.system in closures:
        return "whole"
    raise conflict(
        "container_in_the_way",
        f"there is a container {container} that this hive has not made",
        f"remove it (nixos-container destroy {container}), or choose another name for the agent",
    )


def is_marked(text: str, mark: str) -> bool:
    """Whether a conf file has the hive's mark."""
    flags = (config_files.value_in(text, "EXTRA_NSPAWN_FLAGS") or "").split()
    return any(flag == mark or flag.startswith(f"{mark}:") for flag in flags)


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _system(profile: Path) -> str | None:
    """The closure behind `system`: two links, both in a directory that the container's root may write."""
    try:
        target = (profile / "system").readlink()
        if target.is_absolute():
            return str(target)
        if len(target.parts) != 1:
            return None
        return str((profile / target).readlink())
    except OSError:
        return None
