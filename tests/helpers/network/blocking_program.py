"""Make a listener on stdin block, connect to it once, and wait until it is shut down.

Whoever accepts until nothing is left, relying on a listener that does not block, then waits for a next connection.
"""

from __future__ import annotations

import os
import select
import socket


def main() -> None:
    """Attack the process that accepts."""
    os.set_blocking(0, True)
    with socket.create_connection(("127.0.0.1", 3128)):
        ended = select.poll()
        ended.register(0, 0)  # POLLHUP comes without being asked for.
        ended.poll()


if __name__ == "__main__":
    main()
