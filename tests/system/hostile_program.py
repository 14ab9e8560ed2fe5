"""A hostile program, run by root in a container: it tries what it is told to, and says what has succeeded."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path


def attempts(tasks: dict[str, list[str]]) -> Iterator[str]:
    """Every task that has succeeded."""
    for path in tasks["write"]:
        for flags in (os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_APPEND):
            try:
                descriptor = os.open(path, flags, 0o666)
                os.write(descriptor, b"evil")
            except OSError:
                continue
            yield f"write {path}"
        for act in (Path.unlink, lambda path: path.chmod(0o777), lambda path: os.chown(path, 0, 0)):
            try:
                act(Path(path))
            except OSError:
                continue
            yield f"change {path}"
    for path in tasks["read"]:
        try:
            Path(path).read_bytes()
        except OSError:
            continue
        yield f"read {path}"
    for path in tasks["connect"]:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(path)
            except OSError:
                continue
        yield f"connect {path}"


if __name__ == "__main__":
    reached = list(attempts(json.loads(sys.argv[1])))
    sys.stdout.write(json.dumps({"reached": reached, "uid": os.getuid()}))
