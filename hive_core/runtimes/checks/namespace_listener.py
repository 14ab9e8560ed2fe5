"""A program that listens on a check's loopback from outside: `python -P -m …namespace_listener PORT [NAMESPACE]`.

NAMESPACE is the descriptor of a network namespace, which it enters; without it, it makes one, which exists as long as
it runs. The listener is sent through standard input, a socket. So nothing of the check has a part in it: a check never
has the descriptor, and cannot keep anybody from accepting, as agents could.

It is a process of its own because a process with threads cannot enter a user namespace (setns(2)).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

LOOPBACK = "127.0.0.1"
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_NS_GET_USERNS = 0xB701
"""Opens the user namespace to which a namespace belongs (ioctl_ns(2))."""
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_IP_FREEBIND = 15
_BACKLOG = 1_024


def main() -> int:
    """Send the listener, and keep the namespace until the other end of standard input is closed."""
    port = int(sys.argv[1])
    if len(sys.argv) > 2:
        _enter(int(sys.argv[2]))
    else:
        _make()
    with socket.socket(fileno=0) as channel:
        with _listen(port) as listener:
            socket.send_fds(channel, [b"listener"], [listener.fileno()])
        channel.recv(1)
    return 0


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # The sandbox may not have its address yet.
    listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    listener.bind((LOOPBACK, port))
    listener.listen(_BACKLOG)
    return listener


def _enter(namespace: int) -> None:
    """Enter a network namespace by way of the user namespace that owns it: its owner has all rights there."""
    owner = fcntl.ioctl(namespace, _NS_GET_USERNS)
    if os.fstat(owner).st_ino != Path("/proc/self/ns/user").stat().st_ino:
        _call("setns", owner, _CLONE_NEWUSER)
    _call("setns", namespace, _CLONE_NEWNET)


def _make() -> None:
    """Make a network namespace with a loopback, and a user namespace, in which this process has the rights for that."""
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main())
