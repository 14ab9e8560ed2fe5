"""The check of the listeners of agents that the daemon gives to a gateway."""

from __future__ import annotations

import socket

from hive_core.infra.concurrency.closing import close_apart

_DEFER_SECONDS = 5


class BadListener(ValueError):
    """The reason why a descriptor is not the listener of an agent; a clause."""


def check_listener(descriptor: int, *, speaks_first: bool) -> socket.socket:
    """Return the listener that a descriptor is, which it takes over. Raises BadListener, and closes it then.

    It is a TCP socket that listens on a loopback address. If the agent `speaks_first`, its connections are accepted
    when their first bytes are there.
    """
    try:
        listener = socket.socket(fileno=descriptor)
    except OSError:
        close_apart(descriptor)
        raise BadListener("it is not a socket") from None
    try:
        if listener.family not in (socket.AF_INET, socket.AF_INET6) or listener.type != socket.SOCK_STREAM:
            raise BadListener("it is not a TCP socket")
        if listener.proto != socket.IPPROTO_TCP:
            raise BadListener("it is not a TCP socket")
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise BadListener("it does not listen")
        if listener.getsockname()[0] not in ("127.0.0.1", "::1"):
            raise BadListener("it listens on another address than the loopback's")
        listener.setblocking(False)
        # The kernel hands a connection over when its request is there, which saves this process from waiting for it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS if speaks_first else 0)
    except (BadListener, OSError) as why:
        close_apart(listener.detach())
        raise why if isinstance(why, BadListener) else BadListener(str(why)) from None
    return listener
