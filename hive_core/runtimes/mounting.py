"""A program, `python -P -m hive_core.runtimes.mounting NAMESPACE SOURCE TARGET`: show a sandbox one more directory.

NAMESPACE is a descriptor of the sandbox's mount namespace; SOURCE is a directory here, TARGET a path there. It
needs no rights but those of the user who made the sandbox, and Linux 5.2. A directory can be taken along (as a mount
that is attached nowhere) only out of a mount namespace of one's own, and put only into one that was entered; no
process can be in both, so a second one hands it over.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import sys

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_NS_GET_USERNS = 0xB701
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000

_libc = ctypes.CDLL(None, use_errno=True)


def mount(namespace: int, source: str, target: str) -> None:
    """Bind `source` to `target` in the sandbox, unless it is there. This process stays inside. Raises OSError."""
    ours, theirs = socket.socketpair()
    taker = os.fork()
    if taker == 0:
        os._exit(_take(source, theirs))
    theirs.close()
    message, found, _, _ = socket.recv_fds(ours, 4096, 1)
    os.waitpid(taker, 0)
    if not found:
        raise OSError(int(message or b"5"), f"cannot take {source}")
    # The user namespace that owns the mounts: bubblewrap may have put the sandbox's processes into one below.
    owner = fcntl.ioctl(namespace, _NS_GET_USERNS)
    _call("setns", owner, _CLONE_NEWUSER)
    _call("setns", namespace, _CLONE_NEWNS)
    os.makedirs(target, mode=0o755, exist_ok=True)  # noqa: PTH103 - nothing is imported once inside
    if not os.path.samestat(os.stat(target), os.fstat(found[0])):  # noqa: PTH116
        place = ctypes.c_char_p(os.fsencode(target))
        _call("syscall", _MOVE_MOUNT, found[0], b"", _AT_FDCWD, place, _MOVE_MOUNT_F_EMPTY_PATH)


def _take(source: str, receiver: socket.socket) -> int:
    """Send the mount of `source`, or the number of what went wrong."""
    try:
        _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
        directory = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        taken = _call("syscall", _OPEN_TREE, directory, b"", _OPEN_TREE_CLONE | _AT_EMPTY_PATH | os.O_CLOEXEC)
        socket.send_fds(receiver, [b"0"], [taken])
    except OSError as error:
        receiver.send(str(error.errno).encode())
        return 1
    return 0


def _call(function: str, *arguments: object) -> int:
    result: int = getattr(_libc, function)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
    return result


def main() -> int:
    """Do what the command line says; returns the exit code."""
    namespace, source, target = sys.argv[1:]
    try:
        mount(int(namespace), source, target)
    except OSError as error:
        sys.stdout.write(f"{error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
