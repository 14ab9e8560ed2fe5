"""Unix sockets at paths in directories that only the daemon writes."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from hive_core.errors import HiveError


def bind(path: Path, mode: int, group: int | None, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Return a bound unix socket with this mode and group; an existing socket is replaced.

    Raises `cannot_listen`.
    """
    bound = socket.socket(socket.AF_UNIX, kind)
    try:
        _remove_old(path)
        bound.bind(str(path))
        # Nobody can connect before it listens, which is later: until then its mode does not matter.
        if group is not None:
            os.chown(path, -1, group, follow_symlinks=False)
        path.chmod(mode)
    except OSError as error:
        bound.close()
        raise HiveError("cannot_listen", f"cannot listen on {path}: {os.strerror(error.errno or 0)}") from None
    except HiveError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _remove_old(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise HiveError("cannot_listen", f"{path} is there and no socket", hint="remove it")
        path.unlink()
    except FileNotFoundError:
        pass
