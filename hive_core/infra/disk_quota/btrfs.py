"""Simple quotas of btrfs (Linux 6.7): a group of subvolumes whose files together have a limit.

The group of an agent is 1/ID, ID being the id of its first subvolume. The kernel puts each subvolume that is made below
another one into the same group, unless the caller of BTRFS_IOC_SUBVOL_CREATE_V2 names other groups, which needs no
privileges (tried with Linux 6.18). So `Group.adopt` has to be called again and again. With the older kind of quotas a
subvolume that an agent makes belongs to no group at all, and with what it already holds it can only join one after all
files were counted anew: they are not used.

Everything goes through descriptors. See btrfs-qgroup(8), btrfs-quota(8) and linux/btrfs.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hive_core.infra.disk_quota.trees import walk
from hive_core.infra.storage.files import open_directory

_MAGIC = 0x94
_WRITE, _READ = 1, 2


def _request(direction: int, number: int, size: int) -> int:
    return (direction << 30) | (size << 16) | (_MAGIC << 8) | number


_SUBVOL_CREATE = _request(_WRITE, 14, 4096)
_TREE_SEARCH = _request(_READ | _WRITE, 17, 4096)
_INO_LOOKUP = _request(_READ | _WRITE, 18, 4096)
_SUBVOL_GETFLAGS = _request(_READ, 25, 8)
_SUBVOL_SETFLAGS = _request(_WRITE, 26, 8)
_FS_INFO = _request(_READ, 31, 1024)
_QGROUP_ASSIGN = _request(_WRITE, 41, 24)
_QGROUP_CREATE = _request(_WRITE, 42, 16)
_QGROUP_LIMIT = _request(_READ, 43, 48)

ROOT_TREE, QUOTA_TREE = 1, 8
_ROOT_REF_KEY, _QGROUP_RELATION_KEY = 156, 246
FIRST_INODE = 256
"""The inode number of the root directory of each subvolume, and the least id of one."""
_READ_ONLY = 2
_LEVEL = 48
"""The bits of a group's id below its level."""
_MAX_RFER = 1
_NO_LIMIT = 2**64 - 1
_KEY = struct.Struct("=7Q4I4Q")
_HEADER = struct.Struct("=3Q2I")
_SYSFS = Path("/sys/fs/btrfs")

NEED_SIMPLE = "simple quotas are switched off on this btrfs"


def file_system(descriptor: int) -> uuid.UUID | None:
    """Return the id of the btrfs that an open file is on; None if it is another file system."""
    answer = bytearray(1024)
    try:
        fcntl.ioctl(descriptor, _FS_INFO, answer)
    except OSError:
        return None
    return uuid.UUID(bytes=bytes(answer[16:32]))


def problem(fsid: uuid.UUID, sysfs: Path = _SYSFS) -> str:
    """Return the reason why directories on this btrfs cannot have quotas; empty if they can."""
    try:
        mode = (sysfs / str(fsid) / "qgroups/mode").read_text().strip()
    except OSError:
        return NEED_SIMPLE
    return "" if mode == "squota" else f"{NEED_SIMPLE}, and the older kind ({mode}) misses subvolumes of agents"


def create_subvolume(directory: int, name: str) -> None:
    """Create an empty subvolume `name` in an open directory, with mode 0777 less the umask. Raises OSError."""
    fcntl.ioctl(directory, _SUBVOL_CREATE, bytearray(struct.pack("=q4088s", 0, os.fsencode(name))))


def is_subvolume(descriptor: int) -> bool:
    """Return True if an open directory of a btrfs is the root of a subvolume."""
    return os.fstat(descriptor).st_ino == FIRST_INODE


def make_writable(directory: Path) -> int:
    """Make all subvolumes in and below a directory writable; returns how many were not.

    Their owner, such as an agent, may forbid changes in a subvolume, and then not even root can delete what is in it.
    Nothing may be mounted below the directory, and nobody else may write there. Raises OSError.
    """
    with open_directory(directory) as top:
        fsid = file_system(top)
        if fsid is None:
            return 0

        def enters(parent: int, entry: os.DirEntry[str]) -> bool:
            with open_directory(entry.name, parent) as child:
                return file_system(child) == fsid

        found = _allow_changes(top)
        for parent, entry in walk(top, enters):
            if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_ino == FIRST_INODE:
                with open_directory(entry.name, parent) as child:
                    found += _allow_changes(child)
        return found


def _allow_changes(descriptor: int) -> int:
    """Make an open directory writable if it is the root of a subvolume that is not; returns 1 if it was, else 0."""
    if not is_subvolume(descriptor):
        return 0
    answer = bytearray(8)
    fcntl.ioctl(descriptor, _SUBVOL_GETFLAGS, answer)
    flags = int.from_bytes(answer, sys.byteorder)
    if not flags & _READ_ONLY:
        return 0
    fcntl.ioctl(descriptor, _SUBVOL_SETFLAGS, bytearray((flags & ~_READ_ONLY).to_bytes(8, sys.byteorder)))
    return 1


def subvolume(descriptor: int) -> int:
    """Return the id of the subvolume that an open file is in."""
    answer = bytearray(4096)
    struct.pack_into("=2Q", answer, 0, 0, FIRST_INODE)
    fcntl.ioctl(descriptor, _INO_LOOKUP, answer)
    return int(struct.unpack_from("=Q", answer)[0])


@dataclass(frozen=True)
class Group:
    """The group of the agent whose first subvolume is `first`, on the btrfs `fsid`.

    `descriptor` is an open directory outside of the group: a change of a limit takes space for a moment in the
    subvolume of the descriptor, and would be refused in a full one.
    """

    descriptor: int
    first: int
    fsid: uuid.UUID

    @property
    def number(self) -> int:
        """The id of the group."""
        return (1 << _LEVEL) | self.first

    def create(self) -> None:
        """Create the group with the agent's first subvolume, unless it exists."""
        with_ignored(errno.EEXIST, self.descriptor, _QGROUP_CREATE, struct.pack("=2Q", 1, self.number))
        self.add(self.first)

    def add(self, member: int) -> None:
        """Put a subvolume into the group and take it out of others. What it holds counts from now on."""
        groups = set(_related(self.descriptor, member))
        for other in groups - {self.number}:
            self._assign(member, other, put=False)
        if self.number not in groups:
            self._assign(member, self.number, put=True)

    def adopt(self) -> list[int]:
        """Put all subvolumes below those of the group into it; returns the ids of those that were in none or others."""
        found: list[int] = []
        known = set(self.members())
        waiting = sorted(known)
        while waiting:
            for child in _children(self.descriptor, waiting.pop()):
                if set(_related(self.descriptor, child)) != {self.number}:
                    self.add(child)
                    found.append(child)
                if child not in known:
                    known.add(child)
                    waiting.append(child)
        return found

    def members(self) -> list[int]:
        """Return the ids of the group's subvolumes, also of some that no longer exist."""
        return _related(self.descriptor, self.number)

    def set_limit(self, limit: int | None) -> None:
        """Set the most bytes that the group may use; None removes the limit."""
        order = struct.pack("=6Q", self.number, _MAX_RFER, _NO_LIMIT if limit is None else limit, 0, 0, 0)
        fcntl.ioctl(self.descriptor, _QGROUP_LIMIT, bytearray(order))

    def limit(self) -> int | None:
        """Return the limit that the kernel has, None if there is none."""
        most = self._read("max_referenced")
        return None if most in (None, 0, _NO_LIMIT) else most

    def usage(self) -> int | None:
        """Return the bytes in use as the kernel counts them at the moment; None if there is no group."""
        return self._read("referenced")

    def remove(self) -> None:
        """Remove the group; its subvolumes stay."""
        for member in self.members():
            with_ignored(errno.ENOENT, self.descriptor, _QGROUP_ASSIGN, struct.pack("=3Q", 0, member, self.number))
        with_ignored(errno.ENOENT, self.descriptor, _QGROUP_CREATE, struct.pack("=2Q", 0, self.number))

    def _assign(self, member: int, group: int, *, put: bool) -> None:
        fcntl.ioctl(self.descriptor, _QGROUP_ASSIGN, bytearray(struct.pack("=3Q", put, member, group)))

    def _read(self, name: str) -> int | None:
        return counted(self.fsid, self.number, name)


def counted(fsid: uuid.UUID, group: int, name: str) -> int | None:
    """Return what the kernel counts for a group, such as `referenced`; None if there is no group."""
    directory = f"{group >> _LEVEL}_{group & ((1 << _LEVEL) - 1)}"
    try:
        return int((_SYSFS / str(fsid) / "qgroups" / directory / name).read_text())
    except OSError:
        return None


def with_ignored(number: int, descriptor: int, request: int, order: bytes) -> None:
    """Call ioctl(2); the error `number` means that there is nothing to do."""
    try:
        fcntl.ioctl(descriptor, request, bytearray(order))
    except OSError as error:
        if error.errno != number:
            raise


def _children(descriptor: int, parent: int) -> list[int]:
    """Return the ids of the subvolumes right below another one."""
    return [child for child, _ in search(descriptor, ROOT_TREE, parent, _ROOT_REF_KEY)]


def _related(descriptor: int, group: int) -> list[int]:
    """Return the groups of a subvolume, or the subvolumes of a group."""
    return [other for other, _ in search(descriptor, QUOTA_TREE, group, _QGROUP_RELATION_KEY)]


def search(descriptor: int, tree: int, objectid: int, kind: int) -> Iterator[tuple[int, bytes]]:
    """Yield the offsets and items of all keys of a tree with this object id and type."""
    for _, offset, item in _found(descriptor, tree, (objectid, objectid), kind, 0):
        yield offset, item


def search_all(descriptor: int, tree: int, kind: int, since: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the keys (offset, object id) and items of a type in a tree, of leaves that changed from a generation on."""
    for objectid, offset, item in _found(descriptor, tree, (0, _NO_LIMIT), kind, since):
        yield offset, objectid, item


def _found(
    descriptor: int, tree: int, objectids: tuple[int, int], kind: int, since: int
) -> Iterator[tuple[int, int, bytes]]:
    """Yield what BTRFS_IOC_TREE_SEARCH finds: object ids, offsets and items."""
    objectid, last = objectids
    offset = 0
    while True:
        answer = bytearray(4096)
        key = (tree, objectid, last, offset, _NO_LIMIT, since, _NO_LIMIT, kind, kind, 4096, 0, 0, 0, 0, 0)
        _KEY.pack_into(answer, 0, *key)
        fcntl.ioctl(descriptor, _TREE_SEARCH, answer)
        count, position = _KEY.unpack_from(answer)[9], _KEY.size
        for _ in range(count):
            _, objectid, offset, _, length = _HEADER.unpack_from(answer, position)
            position += _HEADER.size
            yield objectid, offset, bytes(answer[position : position + length])
            position += length
        if count == 0 or (offset == _NO_LIMIT and objectid == last):
            return
        objectid, offset = (objectid, offset + 1) if offset < _NO_LIMIT else (objectid + 1, 0)
