"""Project quotas of ext4 and xfs: files carry the number of a project, and a project has a limit.

Directories hand their number on to what is made in them. Only processes in the first user namespace may change it, so a
container with user namespaces, or an agent in bubblewrap, cannot. quotactl_fd(2) (Linux 5.14) takes a descriptor, so no
path is resolved. See ioctl_xfs_fsgetxattr(2), quotactl(2) and linux/dqblk_xfs.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass

from hive_core.infra.disk_quota.trees import walk

Quotactl = Callable[[int, int, int, bytearray], None]
"""Calls quotactl_fd(2) for projects: descriptor, command, project, buffer. Raises OSError."""
Ioctl = Callable[[int, int, bytearray], object]

FSGETXATTR, FSSETXATTR = 0x801C581F, 0x401C5820
_FSXATTR = struct.Struct("=5I8x")
_INHERIT = 0x200
Q_GETQUOTA, Q_SETQUOTA, Q_XGETQSTATV = 0x800007, 0x800008, 0x5808
_PROJECTS = 2
_QUOTACTL_FD = 443
"""The number of the system call on all architectures that NixOS supports."""
_DQBLK = struct.Struct("=8QI4x")
_LIMITS = 1 | 4
"""QIF_BLIMITS and QIF_ILIMITS: space, and the number of files."""
_ACCOUNTED, _ENFORCED = 0x10, 0x20
_BLOCK = 1024
_BYTES_PER_FILE = 4096
"""A file takes a block at least. So this limit of files is only reached with empty ones, of which there are not
endlessly many either."""
_LEAST, _MOST = 0x48000000, 0x48FFFFFF
"""The numbers of the hive's projects: an operator's own in /etc/projid are usually small."""

NOT_ON = "project quotas are switched off on this file system"


def quotactl(descriptor: int, command: int, project: int, buffer: bytearray) -> None:
    """Call quotactl_fd(2). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    address = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    whole = ctypes.c_uint(command << 8 | _PROJECTS)
    if libc.syscall(_QUOTACTL_FD, ctypes.c_uint(descriptor), whole, ctypes.c_uint(project), address) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _ioctl(descriptor: int, request: int, buffer: bytearray) -> object:
    return fcntl.ioctl(descriptor, request, buffer)


@dataclass(frozen=True)
class ProjectQuotas:
    """The project quotas of one file system, which tests reach through other functions than the kernel's."""

    quotactl: Quotactl = quotactl
    ioctl: Ioctl = _ioctl

    def problem(self, descriptor: int) -> str:
        """Return the reason why directories on this file system cannot have quotas; empty if they can."""
        answer = bytearray(256)
        answer[0] = 1  # FS_QSTATV_VERSION1
        try:
            self.quotactl(descriptor, Q_XGETQSTATV, 0, answer)
        except OSError as error:
            if error.errno == errno.EPERM:
                return "only root can set quotas"
            return NOT_ON
        flags = struct.unpack_from("=H", answer, 2)[0]
        if not flags & _ACCOUNTED:
            return NOT_ON
        return "" if flags & _ENFORCED else f"{NOT_ON}: they are counted, and nothing is limited"

    def project(self, descriptor: int) -> int:
        """Return the number of the project of an open directory from which new files inherit it; 0 if there is none."""
        flags, _, _, project = self._attributes(descriptor)[:4]
        return project if flags & _INHERIT else 0

    def choose(self, descriptor: int, seed: int) -> int:
        """Return a number that no file has and that has no limits; `seed` says where to begin to look."""
        count = _MOST - _LEAST + 1
        for step in range(1_000):
            project = _LEAST + (seed + step) % count
            found = self._quota(descriptor, project)
            if found[0] == found[2] == found[5] == 0:
                return project
        raise OSError(errno.EBUSY, "no free number of a project was found")

    def mark(self, descriptor: int, project: int) -> None:
        """Give an open directory and all files and directories below it to the project. Nothing may write there.

        The directory itself comes last, so that an interrupted call is seen and repeated. Raises OSError.
        """
        for directory, entry in walk(descriptor):
            # O_PATH first: opening a device or a FIFO could have an effect.
            handle = os.open(entry.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                kind = stat.S_IFMT(os.fstat(handle).st_mode)
                if kind in (stat.S_IFREG, stat.S_IFDIR):  # The others take no space, and cannot be opened for this.
                    self._mark(handle, project)
            finally:
                os.close(handle)
        self._put(descriptor, project)

    def set_limit(self, descriptor: int, project: int, limit: int | None) -> None:
        """Set the most bytes that the files of the project may take; None removes the limit."""
        blocks, files = (0, 0) if limit is None else (max(1, limit // _BLOCK), max(1, limit // _BYTES_PER_FILE))
        self.quotactl(
            descriptor, Q_SETQUOTA, project, bytearray(_DQBLK.pack(blocks, blocks, 0, files, files, 0, 0, 0, _LIMITS))
        )

    def limit(self, descriptor: int, project: int) -> int | None:
        """Return the limit that the kernel has, None if there is none."""
        blocks = self._quota(descriptor, project)[0]
        return blocks * _BLOCK or None

    def usage(self, descriptor: int, project: int) -> int:
        """Return the bytes that the files of the project take."""
        return int(self._quota(descriptor, project)[2])

    def _quota(self, descriptor: int, project: int) -> tuple[int, ...]:
        answer = bytearray(_DQBLK.size)
        try:
            self.quotactl(descriptor, Q_GETQUOTA, project, answer)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH):  # xfs has no entry for an unused number.
                raise
        return _DQBLK.unpack(answer)

    def _attributes(self, descriptor: int) -> tuple[int, ...]:
        buffer = bytearray(_FSXATTR.size)
        self.ioctl(descriptor, FSGETXATTR, buffer)
        return _FSXATTR.unpack(buffer)

    def _mark(self, handle: int, project: int) -> None:
        # /proc leads to the inode that is open, whatever its name leads to meanwhile.
        descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._put(descriptor, project)
        finally:
            os.close(descriptor)

    def _put(self, descriptor: int, project: int) -> None:
        flags, extent, extents, _, copied = self._attributes(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            flags |= _INHERIT
        self.ioctl(descriptor, FSSETXATTR, bytearray(_FSXATTR.pack(flags, extent, extents, project, copied)))
