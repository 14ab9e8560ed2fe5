"""The quota of an agent: one limit for several directories, on each file system with what that has for it.

The directories that are named lie in places that only the daemon writes; what is in them may be an agent's. They are
opened once without following links, and all else goes through their descriptors.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import structlog

from hive_core.infra.disk_quota import btrfs
from hive_core.infra.disk_quota.project import ProjectQuotas
from hive_core.infra.disk_quota.strays import Strays
from hive_core.infra.storage.files import open_directory

_log = structlog.get_logger(__name__)

NOT_ROOT = "only root can set quotas"
BEFORE = "was made before quotas were switched on"


@dataclass(frozen=True)
class DiskQuota:
    """The disk quota of an agent, as the kernel has it.

    `limit` and `used` are in bytes; `limit` is None if there is none. `problem` says why nothing can be enforced, or
    not everywhere; it is empty if a limit holds for everything that the agent can write.
    """

    limit: int | None = None
    used: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class _Directory:
    """A directory that the agent writes, and the one that it lies in, which only the daemon writes."""

    path: Path
    descriptor: int
    parent: int


@dataclass
class _Share:
    """The directories of an agent on one file system. The first of them gives the group or the project its number."""

    directories: list[_Directory] = field(default_factory=list)

    @property
    def first(self) -> _Directory:
        return self.directories[0]

    def group(self, fsid: UUID) -> btrfs.Group:
        """Return the group of a share on btrfs."""
        return btrfs.Group(self.first.parent, btrfs.subvolume(self.first.descriptor), fsid)


def make_subvolume(path: Path, mode: int) -> bool:
    """Create a directory as a subvolume, if it needs to be one to have a quota; returns True if it does.

    Nothing happens if it exists, or the directory that it belongs in does not. Raises OSError.
    """
    if os.geteuid() != 0 or not path.parent.is_dir():
        return False
    with open_directory(path.parent) as parent:
        fsid = btrfs.file_system(parent)
        if fsid is None or btrfs.problem(fsid):
            return False
        with suppress(FileExistsError):
            btrfs.create_subvolume(parent, path.name)
            with open_directory(path.name, parent) as created:
                os.fchmod(created, mode)
    return True


def make_removable(directory: Path) -> bool:
    """Allow changes in all subvolumes in and below a directory; returns True if an agent had forbidden any.

    Nothing may be mounted below the directory, and nobody else may write there. A failure is logged.
    """
    try:
        return btrfs.make_writable(directory) > 0
    except OSError as error:
        _log.warning("subvolumes not made writable", directory=str(directory), error=error.strerror)
        return False


class DirectoryQuotas:
    """Sets and reads quotas. All methods block."""

    def __init__(self, projects: ProjectQuotas | None = None) -> None:
        self._projects = projects or ProjectQuotas()
        self._strays = Strays()

    def problem(self, directory: Path) -> str:
        """Return the reason why directories in `directory` cannot have quotas, also not root's; empty if they can.

        Raises OSError.
        """
        with open_directory(directory) as descriptor:
            return self._problem(descriptor)

    def to_convert(self, directories: Sequence[Path]) -> list[Path]:
        """Return the directories on btrfs that have to become subvolumes before they can have quotas."""
        if os.geteuid() != 0:
            return []
        with _opened(directories) as opened:
            return [
                each.path
                for each in opened
                if (fsid := btrfs.file_system(each.descriptor)) is not None
                and not btrfs.problem(fsid)
                and not btrfs.is_subvolume(each.descriptor)
            ]

    def enforce(self, directories: Sequence[Path], limit: int | None, *, stopped: bool) -> DiskQuota:
        """Limit what is in the directories to `limit` bytes in all; those that do not exist are left out.

        A directory of ext4 or xfs that has no quota yet gets one if `stopped`: then nothing but the caller may write in
        it. On btrfs `to_convert` names it before. Each file system has a limit of its own. Nothing is raised: `problem`
        of the result says what could not be done.
        """
        if os.geteuid() != 0:
            return DiskQuota(problem=NOT_ROOT)
        problems: list[str] = []
        limits: list[int | None] = []
        used = 0
        with _opened(directories) as opened:
            for share in _shares(opened):
                why = self._problem(share.first.descriptor)
                try:
                    if not why and stopped:
                        self._prepare(share)
                    why = why or self._set(share, limit)
                    if not why:
                        now = self._read(share)
                        limits.append(now.limit)
                        used += now.used or 0
                except OSError as error:
                    why = error.strerror or str(error)
                if why:
                    problems.append(f"{share.first.path}: {why}")
        # A limit that holds on one file system only is none.
        holds = limits[0] if limits and not problems else None
        return DiskQuota(holds, used if limits else None, "; ".join(problems))

    def read(self, directories: Sequence[Path]) -> DiskQuota:
        """Return the quota and the use of the directories."""
        if os.geteuid() != 0:
            return DiskQuota(problem=NOT_ROOT)
        found: list[DiskQuota] = []
        with _opened(directories) as opened:
            for share in _shares(opened):
                try:
                    why = self._problem(share.first.descriptor) or self._uncovered(share)
                    found.append(DiskQuota(problem=f"{share.first.path}: {why}") if why else self._read(share))
                except OSError as error:
                    found.append(DiskQuota(problem=f"{share.first.path}: {error.strerror}"))
        problems = [each.problem for each in found if each.problem]
        counted = [each.used for each in found if each.used is not None]
        limit = found[0].limit if found and not problems else None
        return DiskQuota(limit, sum(counted) if counted else None, "; ".join(problems))

    def adopt(self, directories: Sequence[Path]) -> int:
        """Count the subvolumes too that an agent has made outside of its group; returns how many there were."""
        found = 0
        if os.geteuid() != 0:
            return 0
        with _opened(directories) as opened:
            for share in _shares(opened):
                fsid = btrfs.file_system(share.first.descriptor)
                if fsid is not None and not btrfs.problem(fsid) and not self._uncovered(share):
                    found += len(share.group(fsid).adopt())
        return found

    def claim(self, directories: Mapping[str, Sequence[Path]]) -> list[str]:
        """Count the space of deleted subvolumes for the agents whose files use it; returns the names of these agents.

        `directories` are those of each agent. Raises OSError.
        """
        tops: dict[UUID, dict[int, btrfs.Group]] = {}
        names: dict[tuple[UUID, int], str] = {}
        outside: dict[UUID, int] = {}
        with ExitStack() as stack:
            for name, paths in directories.items() if os.geteuid() == 0 else ():
                with _opened(paths) as opened:
                    for share in _shares(opened):
                        fsid = btrfs.file_system(share.first.descriptor)
                        if fsid is None or btrfs.problem(fsid) or self._uncovered(share):
                            continue
                        if fsid not in tops:  # One descriptor for all, as there may be hundreds of agents.
                            outside[fsid] = os.dup(share.first.parent)
                            stack.callback(os.close, outside[fsid])
                            tops[fsid] = {}
                        group = btrfs.Group(outside[fsid], btrfs.subvolume(share.first.descriptor), fsid)
                        tops[fsid] |= {btrfs.subvolume(each.descriptor): group for each in share.directories}
                        names[fsid, group.first] = name
            return [names[group.fsid, group.first] for found in tops.values() for group in self._strays.claim(found)]

    def forget(self, directories: Sequence[Path], keep: Path | None = None) -> None:
        """Remove the limits and groups of directories that are about to be deleted.

        Directories on the file system of `keep` share its quota, which stays. A failure is logged: other agents can
        bring it about, by putting subvolumes into the group, and no number is used again.
        """
        if os.geteuid() != 0:
            return
        with _opened([*directories, *([keep] if keep else [])]) as opened:
            for share in _shares(opened):
                if keep in [each.path for each in share.directories]:
                    continue
                try:
                    self._forget(share)
                except OSError as error:
                    _log.warning("quota not removed", directory=str(share.first.path), error=error.strerror)

    def _forget(self, share: _Share) -> None:
        top = share.first.descriptor
        if self._problem(top) or self._uncovered(share):
            return
        fsid = btrfs.file_system(top)
        if fsid is not None:
            share.group(fsid).remove()
        else:
            self._projects.set_limit(top, self._projects.project(top), None)

    def _problem(self, descriptor: int) -> str:
        fsid = btrfs.file_system(descriptor)
        return self._projects.problem(descriptor) if fsid is None else btrfs.problem(fsid)

    def _prepare(self, share: _Share) -> None:
        """Make the directories parts of one project, with all that is in them. Raises OSError."""
        if btrfs.file_system(share.first.descriptor) is not None:
            return
        project = self._projects.project(share.first.descriptor)
        if not project:
            seed = zlib.crc32(os.fsencode(share.first.path))
            project = self._projects.choose(share.first.descriptor, seed)
        for directory in reversed(share.directories):  # The first last, from which the number is read.
            if self._projects.project(directory.descriptor) != project:
                self._projects.mark(directory.descriptor, project)

    def _uncovered(self, share: _Share) -> str:
        """Return which directories have no quota yet; empty if all have."""
        if btrfs.file_system(share.first.descriptor) is not None:
            without = [each for each in share.directories if not btrfs.is_subvolume(each.descriptor)]
        else:
            project = self._projects.project(share.first.descriptor)
            without = [each for each in share.directories if self._projects.project(each.descriptor) != project]
            without = without if project else share.directories
        return f"{without[0].path.name} {BEFORE}" if without else ""

    def _set(self, share: _Share, limit: int | None) -> str:
        """Set the limit; returns why that is not possible, or an empty text."""
        if why := self._uncovered(share):
            return why
        top = share.first.descriptor
        fsid = btrfs.file_system(top)
        if fsid is None:
            self._projects.set_limit(top, self._projects.project(top), limit)
            return ""
        group = share.group(fsid)
        group.create()
        for directory in share.directories:
            group.add(btrfs.subvolume(directory.descriptor))
        group.adopt()
        group.set_limit(limit)
        return ""

    def _read(self, share: _Share) -> DiskQuota:
        top = share.first.descriptor
        fsid = btrfs.file_system(top)
        if fsid is None:
            project = self._projects.project(top)
            return DiskQuota(self._projects.limit(top, project), self._projects.usage(top, project))
        group = share.group(fsid)
        return DiskQuota(group.limit(), group.usage())


@contextmanager
def _opened(paths: Sequence[Path]) -> Iterator[list[_Directory]]:
    """Open directories; those that do not exist, or are none, are left out."""
    opened: list[_Directory] = []
    with ExitStack() as whole:
        for path in paths:
            with suppress(OSError), ExitStack() as stack:
                parent = stack.enter_context(open_directory(path.parent))
                opened.append(_Directory(path, stack.enter_context(open_directory(path.name, parent)), parent))
                whole.push(stack.pop_all())
        yield opened


def _shares(opened: list[_Directory]) -> list[_Share]:
    """Sort directories by file system. Each subvolume of btrfs has a device number of its own, hence its id."""
    shares: dict[object, _Share] = {}
    for directory in opened:
        fsid = btrfs.file_system(directory.descriptor)
        key = os.fstat(directory.descriptor).st_dev if fsid is None else fsid
        shares.setdefault(key, _Share()).directories.append(directory)
    return list(shares.values())
