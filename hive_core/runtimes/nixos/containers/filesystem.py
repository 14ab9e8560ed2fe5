"""A container's profile: the link `system` that keeps the closure and tells `nixos-container` of it.

Its directory is bound into the container, where root may write. So nothing in it is followed, and `nix-env` is not let
loose there: it would open whatever lies in the place of its lock file, and count on from any number. Nor would it be
worth the time between two closures: what it does is these two links.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = "system"
_FIRST = f"{_NAME}-1-link"
"""As `nix-env` names the first generation. There is never another: going back is the gate's."""


def point(profile: Path, closure: str) -> None:
    """Make the profile lead to the closure and to nothing else. Its directory is made if need be. Raises OSError.

    Until this returns, something else must keep the closure.
    """
    profile.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _opened(profile) as directory:
        _clear(directory)
        os.symlink(closure, _FIRST, dir_fd=directory)
        os.symlink(_FIRST, _NAME, dir_fd=directory)


def clear(profile: Path) -> None:
    """Take away all that is or looks like a generation; old closures do not pile up so. Raises OSError."""
    try:
        with _opened(profile) as directory:
            _clear(directory)
    except FileNotFoundError:
        return


@contextmanager
def _opened(profile: Path) -> Iterator[int]:
    descriptor = os.open(profile, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _clear(directory: int) -> None:
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
