"""Profile links and the container's root directory, never following links.

Its directory is bound into the container, where root may write. So nothing in it is followed, and `nix-env` is not let
loose there: it would open whatever lies in the place of its lock file, and count on from any number. Nor would it be
worth the time between two closures: what it does is these two links.

Before nspawn runs, the script of container@.service makes directories there, changes their modes, and writes into them
by path (`preStart` and `script` of nixos/modules/virtualisation/nixos-containers.nix). That directory is the agent's:
a link that it puts there would lead the script out onto the host. What NixOS needs of all this, its activation makes
anew as the container starts.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from hive_core.infra.files import open_directory

_log = structlog.get_logger(__name__)


_NAME = "system"
_FIRST = f"{_NAME}-1-link"
"""As `nix-env` names the first generation. There is never another: going back is the gate's."""


def point_profile(profile: Path, closure: str) -> None:
    """Make the profile lead to the closure and to nothing else. Its directory is made if need be. Raises OSError.

    Until this returns, something else must keep the closure.
    """
    profile.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open_directory(profile) as directory:
        _clear_generations(directory)
        os.symlink(closure, _FIRST, dir_fd=directory)
        os.symlink(_FIRST, _NAME, dir_fd=directory)


def clear_profile(profile: Path) -> None:
    """Take away all that is or looks like a generation; old closures do not pile up so. Raises OSError."""
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
                # However much is in it, and however deep: that is the agent's to clear up. Its new name is short,
                # whatever the old one was, and is not looked for here again.
                os.rename(entry.name, f".{secrets.token_hex(8)}", src_dir_fd=directory, dst_dir_fd=directory)


_FILE: Final = None
_Tree = Mapping[str, "_Tree | None"]
_WAY: _Tree = {
    "etc": {"os-release": _FILE, "machine-id": _FILE, "resolv.conf": _FILE},
    "var": {"lib": {"private": {}}},
    "root": {},
    "usr": {"bin": {}},
}
"""Every path that the script uses: directories, with what lies in them, and files."""


def clear_way(root: Path) -> None:
    """Take away what is no directory, or no regular file, where the script expects one below `root`.

    Follows no links, and needs nothing in the container to be running: else a link may be back at once. A directory in
    the place of a file is put aside under another name. Raises OSError, also if `root` itself is no directory.
    """
    try:
        with open_directory(root, path_only=True) as directory:
            _clear_tree(directory, _WAY, root)
    except FileNotFoundError:
        return  # The script makes it.


def _clear_tree(directory: int, tree: _Tree, path: Path) -> None:
    for name, below in tree.items():
        try:
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            continue
        if below is _FILE:
            if not stat.S_ISREG(mode):  # On NixOS os-release is a link into the store: nothing to warn of.
                _remove(name, directory, mode)
        elif stat.S_ISDIR(mode):
            with open_directory(name, directory, path_only=True) as inner:
                _clear_tree(inner, below, path / name)
        else:
            _log.warning("no directory where a container needs one, it is removed", path=str(path / name))
            _remove(name, directory, mode)


def _remove(name: str, directory: int, mode: int) -> None:
    if stat.S_ISDIR(mode):
        # However much is in it, and however deep: that is the agent's to clear up.
        os.rename(name, f"{name}.{secrets.token_hex(8)}", src_dir_fd=directory, dst_dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)
