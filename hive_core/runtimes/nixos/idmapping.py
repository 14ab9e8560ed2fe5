"""Whether files of a directory can be shown to a container of another user's: idmapped mounts, tried out.

nspawn makes them for its `idmap` and `rootidmap` binds. Since Linux 5.12, file system by file system: ext4 and xfs
first, btrfs since 5.15, tmpfs since 6.3; overlayfs and most network file systems have none (mount_setattr(2)).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.processes import Command, readable, spawn

_OPEN_TREE, _MOUNT_SETATTR = 428, 442
"""Numbers of the system calls: the same on every architecture but alpha."""
_OPEN_TREE_CLONE = 1
_AT_EMPTY_PATH = 0x1000
_MOUNT_ATTR_IDMAP = 0x00100000
_AT_FDCWD = -100


class _MountAttr(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


async def check(directories: Sequence[Path]) -> None:
    """Raise HiveError `no_idmapped_mounts` for the first directory that cannot be shown so. Where it cannot be tried
    (no right to, no user namespaces) nothing is said: the container's own start will tell.
    """
    namespace = await _other_users()
    if namespace is None:
        return
    try:
        for directory in directories:
            if _refused(directory, namespace):
                raise HiveError(
                    "no_idmapped_mounts",
                    f"{directory} cannot be bound into containers with user namespaces: its file system, or this "
                    "kernel, has no idmapped mounts",
                    hint="put it on ext4, xfs, btrfs or (since Linux 6.3) tmpfs, or set nixos.user_namespaces = false: "
                    "root in a container is then root's equal on this host",
                )
    finally:
        os.close(namespace)


async def _other_users() -> int | None:
    """A user namespace, as a descriptor; None if none can be made."""
    source, feed = os.pipe2(os.O_CLOEXEC)
    try:
        line = ["unshare", "--user", "--map-root-user", "cat"]
        process = spawn(Command(line, {"PATH": os.environ.get("PATH", os.defpath)}, Path("/"), stdin=source))
    except OSError:
        os.close(feed)
        return None
    finally:
        os.close(source)
    try:
        # What is written comes back once `cat` runs: the namespace is made by then.
        os.write(feed, b"x")
        await readable(process.output)
        with suppress(OSError):
            if os.read(process.output, 1) == b"x":
                return os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        return None
    finally:
        os.close(feed)
        process.kill()
        await process.wait()
        process.close()


def _refused(directory: Path, namespace: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | os.O_CLOEXEC)
    tree = libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(directory), flags)
    if tree < 0:
        return ctypes.get_errno() == errno.ENOSYS
    try:
        wanted = _MountAttr(attr_set=_MOUNT_ATTR_IDMAP, userns_fd=namespace)
        size = ctypes.c_size_t(ctypes.sizeof(wanted))
        failed = libc.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), size) < 0
        return failed and ctypes.get_errno() in (errno.EINVAL, errno.ENOSYS)
    finally:
        os.close(tree)
