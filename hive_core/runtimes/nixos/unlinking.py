"""Taking links out of the way of the unit's start script, the host's root, in a container's root directory.

Before nspawn runs, the script of container@.service makes directories there, changes their modes, and writes into them
by path (`preStart` and `script` of nixos/modules/virtualisation/nixos-containers.nix). That directory is the agent's:
a link that it puts there would lead the script out onto the host. What NixOS needs of all this, its activation makes
anew as the container starts.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

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
        with _opened(root) as directory:
            _clear(directory, _WAY, root)
    except FileNotFoundError:
        return  # The script makes it.


def _clear(directory: int, tree: _Tree, path: Path) -> None:
    for name, below in tree.items():
        try:
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            continue
        if below is _FILE:
            if not stat.S_ISREG(mode):  # On NixOS os-release is a link into the store: nothing to warn of.
                _remove(name, directory, mode)
        elif stat.S_ISDIR(mode):
            with _opened(name, directory) as inner:
                _clear(inner, below, path / name)
        else:
            log.warning("no directory where a container needs one, it is removed", path=str(path / name))
            _remove(name, directory, mode)


def _remove(name: str, directory: int, mode: int) -> None:
    if stat.S_ISDIR(mode):
        # However much is in it, and however deep: that is the agent's to clear up.
        os.rename(name, f"{name}.{secrets.token_hex(8)}", src_dir_fd=directory, dst_dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)


@contextmanager
def _opened(name: str | Path, above: int | None = None) -> Iterator[int]:
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
