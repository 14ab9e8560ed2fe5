"""The files with the secrets of agents: in memory, one directory for each agent, which its sandbox shows read-only.

The run directory is in memory on most hosts. Where it is not, as in a state directory of your own, the files are in
/dev/shm, so that no secret reaches a disk except as swap.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.storage.files import filesystem_type, open_directory, replace_bytes
from hive_core.layout import Layout

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the directory below it is this user's, and checked

_PRIVATE = 0o700


class SecretFiles:
    """The secrets of all agents as files. The methods block for a moment, and raise OSError."""

    def __init__(self, layout: Layout) -> None:
        run = layout.secrets
        if filesystem_type(layout.run_dir) in _IN_MEMORY:
            self.top: Path | None = run
        elif filesystem_type(_SHARED_MEMORY) in _IN_MEMORY:
            place = hashlib.sha256(os.fsencode(layout.state_dir.resolve())).hexdigest()[:16]
            self.top = _SHARED_MEMORY / f"hyperhive-{os.geteuid()}-{place}"
        else:
            self.top = None

    def check(self) -> None:
        """Raise HiveError `no_memory_for_secrets` if there is no file system in memory."""
        if self.top is None:
            raise HiveError(
                "no_memory_for_secrets",
                "secrets cannot be shown to agents: neither the run directory nor /dev/shm is in memory (tmpfs)",
                hint="mount a tmpfs at /dev/shm, or choose a run directory on one with --run-dir",
                status=409,
            )

    def directory(self, agent: str) -> Path | None:
        """Return the directory of an agent's secrets; None if there is no file system in memory."""
        return None if self.top is None else self.top / agent

    def make(self, agent: str) -> None:
        """Create an agent's directory, unless it exists. Raises PermissionError if another user has taken its place."""
        if self.top is None:
            return
        for directory in (self.top, self.top / agent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Everybody can make directories in /dev/shm; only the owner of one can move it away again.
            with open_directory(directory) as opened:
                found = os.fstat(opened)
                if found.st_uid != os.geteuid():
                    raise PermissionError(errno.EPERM, "it belongs to another user", str(directory))
                if stat.S_IMODE(found.st_mode) != _PRIVATE:
                    os.fchmod(opened, _PRIVATE)

    def write(self, agent: str, name: str, content: bytes) -> None:
        """Write one secret, in place of the one of this name."""
        self.make(agent)
        if (directory := self.directory(agent)) is not None:
            replace_bytes(directory / name, content, 0o400)

    def write_all(self, agent: str, secrets: Mapping[str, bytes]) -> None:
        """Write an agent's secrets, and remove all other files of its directory."""
        self.make(agent)
        directory = self.directory(agent)
        if directory is None:
            return
        for path in list(directory.iterdir()):
            if path.name not in secrets:
                path.unlink()
        for name, content in secrets.items():
            replace_bytes(directory / name, content, 0o400)

    def remove(self, agent: str, name: str) -> None:
        """Remove one secret."""
        if (directory := self.directory(agent)) is not None:
            (directory / name).unlink(missing_ok=True)

    def remove_all(self, besides: Collection[str] = ()) -> None:
        """Remove the directories of all agents, except those `besides`: a container may still show them."""
        if self.top is None or not self.top.is_dir():
            return
        for path in list(self.top.iterdir()):
            if path.name not in besides:
                shutil.rmtree(path)
        if not besides:
            self.top.rmdir()
