"""A listening socket that the daemon sends at a door, received and checked."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_DESCRIPTOR = struct.Struct("i")


def receive_listener(request: socket.socket, family: socket.AddressFamily, address: object) -> socket.socket:
    """Return the listener that has arrived at a door, non-blocking. Raises OSError if it is not the expected one.

    `address` is its address, of a unix socket the name of its file, or None if it is not known.
    """
    # Programs that the harness starts must not have it; socket.recv_fds ignores the flag for that (Python 3.11).
    _, found, _, _ = request.recvmsg(1, socket.CMSG_LEN(_DESCRIPTOR.size), socket.MSG_CMSG_CLOEXEC)
    if not found:
        raise OSError("the daemon has not got it")
    lent = socket.socket(fileno=_DESCRIPTOR.unpack(found[0][2])[0])
    try:
        _check(lent, family, address)
        lent.setblocking(False)
    except BaseException:
        lent.close()
        raise
    return lent


def _check(lent: socket.socket, family: socket.AddressFamily, address: object) -> None:
    listens = lent.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    kind = lent.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    if not (lent.family == family and kind == socket.SOCK_STREAM and listens):
        raise OSError(f"what the daemon lent is no listening {family.name} socket")
    found: object = lent.getsockname()
    # The directory of a unix socket is the host's, which the agent does not see.
    if address is not None and (Path(found).name if isinstance(found, str) else found) != address:
        raise OSError(f"what the daemon lent listens on {found}")
