"""One daemon per state directory: a second one on the same database could lose or damage messages."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hive_core.errors import HiveError


class StateLock:
    """Holds a state directory for this process. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock; raises HiveError `state_in_use` if another daemon has it."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise HiveError(
                "state_in_use",
                f"another hive-c0re (process {holder}) is using {path.parent}",
                hint="stop it first, or give this one another --state-dir",
            ) from None
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of the directory."""
        os.close(self._descriptor)
