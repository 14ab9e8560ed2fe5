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
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
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
        """Return the directory of an agent's secrets; None if there is none, or if it is another user's."""
        try:
            with self._opened() as top, open_directory(agent, top) as opened:
                _check_owner(opened, agent)
        except OSError:
            return None
        return None if self.top is None else self.top / agent

    def make(self, agent: str) -> None:
        """Create an agent's directory, unless it exists. Raises PermissionError if another user has taken its place."""
        if self.top is None:
            return
        self.top.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        with self._opened() as top:
            with suppress(FileExistsError):
                os.mkdir(agent, _PRIVATE, dir_fd=top)
            with open_directory(agent, top) as opened:
                _check_owner(opened, agent)
                for each in (top, opened):
                    if stat.S_IMODE(os.fstat(each).st_mode) != _PRIVATE:
                        os.fchmod(each, _PRIVATE)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the directory of all agents. Raises OSError, also if it is another user's or a link."""
        if self.top is None:
            raise FileNotFoundError(errno.ENOENT, "there is no file system in memory")
        # Everybody can make directories and links in /dev/shm; only the owner of one can move it away again.
        with open_directory(self.top) as opened:
            _check_owner(opened, str(self.top))
            yield opened

    def write(self, agent: str, name: str, content: bytes) -> None:
        """Write one secret, in place of the one of this name."""
        self.make(agent)
        if self.top is not None:
            replace_bytes(self.top / agent / name, content, 0o400)

    def write_all(self, agent: str, secrets: Mapping[str, bytes]) -> None:
        """Write an agent's secrets, and remove all other files of its directory."""
        self.make(agent)
        if self.top is None:
            return
        directory = self.top / agent
        for path in list(directory.iterdir()):
            if path.name not in secrets:
                path.unlink()
        for name, content in secrets.items():
            replace_bytes(directory / name, content, 0o400)

    def remove(self, agent: str, name: str) -> None:
        """Remove one secret."""
        with suppress(FileNotFoundError), self._opened() as top, open_directory(agent, top) as directory:
            os.unlink(name, dir_fd=directory)

    def remove_all(self, besides: Collection[str] = ()) -> None:
        """Remove the directories of all agents, except those `besides`: a container may still show them."""
        with suppress(FileNotFoundError):
            with self._opened() as top:
                for agent in os.listdir(top):  # noqa: PTH208 - a descriptor, not a path
                    if agent not in besides:
                        shutil.rmtree(agent, dir_fd=top)
            if not besides and self.top is not None:
                self.top.rmdir()


def _check_owner(opened: int, what: str) -> None:
    if os.fstat(opened).st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", what)
