"""The end of descriptors that somebody else has made, and may have made so that their end takes long."""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import suppress

NO_LINGER = struct.pack("ii", 0, 0)
"""The value of SO_LINGER (socket(7)) with which a close does not wait."""


def close_apart(descriptor: int) -> None:
    """Close a descriptor without waiting for that.

    The last close of a connection waits for as long as its maker likes (SO_LINGER, socket(7)), even if the socket does
    not block, and a listener can be made a connection by whoever has a duplicate.
    """
    threading.Thread(target=_close, args=(descriptor,), name="close", daemon=True).start()


def _close(descriptor: int) -> None:
    with suppress(OSError):
        made = socket.socket(fileno=descriptor)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        finally:
            made.detach()
    os.close(descriptor)
