"""Profile links and the container's root directory, never following links.

The directory of the profile is bound into the container, whose root may write there. So no link in it is followed, and
`nix-env` is not used on it: it would open anything in the place of its lock file, and continue from any number.

Before nspawn runs, the script of container@.service makes directories there, changes their modes, and writes into them
by path (`preStart` and `script` of nixos/modules/virtualisation/nixos-containers.nix). That directory is the agent's:
a link that it puts there would lead the script out onto the host. What NixOS needs of all this, its activation makes
anew as the container starts. `nixos-container destroy` uses a path there, too.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from hive_core.infra.storage.files import open_directory

_log = structlog.get_logger(__name__)


_NAME = "system"
_FIRST = f"{_NAME}-1-link"
"""The name that `nix-env` gives the first generation. There is never another, because the gate rolls back."""


def point_profile(profile: Path, closure: str) -> None:
    """Make the closure the only generation of the profile, and create its directory if necessary. Raises OSError.

    Another GC root must keep the closure until this returns.
    """
    profile.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open_directory(profile) as directory:
        _clear_generations(directory)
        os.symlink(closure, _FIRST, dir_fd=directory)
        os.symlink(_FIRST, _NAME, dir_fd=directory)


def clear_profile(profile: Path) -> None:
    """Remove every generation of the profile, so that old closures are not kept. Raises OSError."""
    try:
        with open_directory(profile) as directory:
            _clear_generations(directory)
    except FileNotFoundError:
        return


def _clear_generations(directory: int) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name != _NAME and not entry.name.startswith((f"{_NAME}-", f"{_NAME}.")):
                continue
            try:
                os.unlink(entry.name, dir_fd=directory)
            except IsADirectoryError:
                # Not removed, because it may be large and deep. Its new name is short, and does not look like a
                # generation.
                os.rename(entry.name, f".{secrets.token_hex(8)}", src_dir_fd=directory, dst_dir_fd=directory)


_FILE: Final = None
_Tree = Mapping[str, "_Tree | None"]
_SCRIPT_PATHS: _Tree = {
    "etc": {"os-release": _FILE, "machine-id": _FILE, "resolv.conf": _FILE},
    "var": {"lib": {"private": {}}, "log": {"journal": {}}},
    "root": {},
    "usr": {"bin": {}},
}
"""Every path that the script uses, or nspawn outside of the container: directories with their entries, and files.

nspawn makes `var/log/journal/<machine id>` by its path, to link it to the host's journal (`--link-journal`). It
resolves the other paths within the root directory.
"""
_DESTROY_PATHS: _Tree = {"var": {"empty": {}}}
"""Every path that `nixos-container destroy` names below the root directory: it makes var/empty mutable (chattr(1))."""


def clear_script_paths(root: Path) -> None:
    """Remove entries below `root` that are no directory or no regular file where the script expects one.

    Follows no links. The container must be stopped, because it could create a link again. A directory in the place of
    a file is renamed. Raises OSError, also if `root` itself is no directory.
    """
    _clear(root, _SCRIPT_PATHS)


def clear_destroy_paths(root: Path) -> None:
    """Remove entries below `root` over which `nixos-container destroy`, run by the host's root, would leave it.

    As `clear_script_paths`. What removes files there follows no links by itself.
    """
    _clear(root, _DESTROY_PATHS)


def _clear(root: Path, tree: _Tree) -> None:
    try:
        with open_directory(root, path_only=True) as directory:
            _clear_tree(directory, tree, root)
    except FileNotFoundError:
        return  # The script creates it.


def _clear_tree(directory: int, tree: _Tree, path: Path) -> None:
    for name, below in tree.items():
        try:
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            continue
        if below is _FILE:
            if not stat.S_ISREG(mode):  # On NixOS os-release is a link into the store, so no warning.
                _remove(name, directory, mode)
        elif stat.S_ISDIR(mode):
            with open_directory(name, directory, path_only=True) as inner:
                _clear_tree(inner, below, path / name)
        else:
            _log.warning("no directory where a container needs one, it is removed", path=str(path / name))
            _remove(name, directory, mode)


def _remove(name: str, directory: int, mode: int) -> None:
    if stat.S_ISDIR(mode):
        # Not removed, because it may be large and deep.
        os.rename(name, f"{name}.{secrets.token_hex(8)}", src_dir_fd=directory, dst_dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)
