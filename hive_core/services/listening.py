"""Listeners of services for people, and the program `python -P -m hive_core.services.listening DESCRIPTOR ADDRESS --
PROGRAM...`, which makes one and becomes a program that inherits it.

The daemon starts a service in a sandbox without network by this program, and so opens no port itself. It imports the
standard library only, so that it takes little time.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path

_BACKLOG = 128
_FAILED = 1


def _parse_address(text: str) -> tuple[str, int] | None:
    """Return host and port of an address to listen on, HOST:PORT; None for another text."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        return None
    return host.strip("[]"), int(port)


def listen(address: str) -> socket.socket:
    """Return a socket that listens on HOST:PORT, or, for a path, on a unix socket that its group may use.

    Raises OSError, and ValueError for what is no address.
    """
    if not address.startswith("/"):
        parsed = _parse_address(address)
        if parsed is None:
            raise ValueError("give HOST:PORT, such as 127.0.0.1:7000, or the path of a unix socket")
        family = socket.AF_INET6 if ":" in parsed[0] else socket.AF_INET
        return socket.create_server(parsed, family=family, backlog=_BACKLOG)
    path = Path(address)
    listener = socket.socket(socket.AF_UNIX)
    try:
        _remove_abandoned(path)
        before = os.umask(0o117)
        try:
            listener.bind(address)
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def reason(error: OSError | ValueError) -> str:
    """Return why `listen` has failed; the library's own words would repeat the address."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno and error.errno > 0 else str(error)


def _remove_abandoned(path: Path) -> None:
    """Remove the socket of a process that was killed. Raises OSError for one on which a process listens."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def main() -> int:
    """Become the program that the command line names; returns the exit code if there is no listener."""
    descriptor, address, _, *program = sys.argv[1:]
    try:
        listener = listen(address)
        os.dup2(listener.detach(), int(descriptor))
        os.set_inheritable(int(descriptor), True)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot listen on {address}: {reason(error)}\n")
    else:
        os.execv(program[0], program)  # noqa: S606 - no shell
    return _FAILED


if __name__ == "__main__":
    sys.exit(main())
