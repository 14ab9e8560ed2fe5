"""A stand-in of systemd's file descriptor store, which passes what is stored to the next start."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from hive_core.infra.systemd import descriptor_store
from hive_core.infra.systemd.descriptor_store import DescriptorStore
from hive_core.infra.systemd.notify import Notifier

_PASSED_FROM = 700
"""The descriptors of a real start begin at 3, which a test's process needs."""


class FakeDescriptorStore:
    """The store of one unit, by the names of what is stored."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._path = path
        self.stored: dict[str, int] = {}

    def start(self) -> DescriptorStore:
        """Return the store as a daemon has it that is started now."""
        self.receive()
        passed = [fcntl.fcntl(each, fcntl.F_DUPFD, _PASSED_FROM + n) for n, each in enumerate(self.stored.values())]
        assert passed == list(range(_PASSED_FROM, _PASSED_FROM + len(passed)))
        self._monkeypatch.setattr(descriptor_store, "_FIRST_DESCRIPTOR", _PASSED_FROM)
        self._monkeypatch.setenv("NOTIFY_SOCKET", str(self._path))
        self._monkeypatch.setenv("FDSTORE", "4096")
        self._monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        self._monkeypatch.setenv("LISTEN_FDS", str(len(passed)))
        self._monkeypatch.setenv("LISTEN_FDNAMES", ":".join(self.stored))
        return DescriptorStore(Notifier())

    def receive(self) -> None:
        """Do what the daemon has asked for."""
        while True:
            try:
                text, descriptors, _, _ = socket.recv_fds(self._socket, 4_096, 8)
            except BlockingIOError:
                return
            fields = dict(line.split("=", 1) for line in text.decode().splitlines())
            if "FDSTOREREMOVE" in fields and (old := self.stored.pop(fields["FDNAME"], None)) is not None:
                os.close(old)
            if "FDSTORE" in fields:
                (self.stored[fields["FDNAME"]],) = descriptors

    def close(self) -> None:
        self.receive()
        self._socket.close()
        for each in self.stored.values():
            os.close(each)
