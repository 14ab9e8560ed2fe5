"""A stand-in of systemd-creds(1) that keeps its host key in a file, and can be told to fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

_PROGRAM = """#!{python} -I
import base64, hashlib, pathlib, sys, time
here = pathlib.Path({directory!r})
(here / "calls").open("a").write(" ".join(sys.argv[1:]) + "\\n")
mode = (here / "mode").read_text()
if mode == "hang":
    time.sleep(60)
if mode == "refuse" or (mode == "no-tpm" and "--with-key=auto" in sys.argv):
    sys.exit("Failed to use the key: no such device")
pad = hashlib.shake_256((here / "host-key").read_bytes()).digest(4096)
check = hashlib.sha256(pad).digest()
given = sys.stdin.buffer.read()
mixed = lambda data: bytes(a ^ b for a, b in zip(data, pad))
if sys.argv[1] == "encrypt":
    made = mixed(given) if mode != "forgets" else mixed(given)[:-1]
    sys.stdout.write(base64.b64encode(check + made).decode() + "\\n")
else:
    sealed = base64.b64decode(given)
    if sealed[:32] != check:
        sys.exit("Failed to decrypt: encrypted with another key")
    sys.stdout.buffer.write(mixed(sealed[32:]))
"""


class FakeSystemdCreds:
    """The stand-in, in front of the PATH of this process, which counts as root."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        directory.mkdir()
        self.use_host("first host")
        self.fail("")
        program = directory / "systemd-creds"
        program.write_text(_PROGRAM.format(python=sys.executable, directory=str(directory)))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr("os.geteuid", lambda: 0)

    def use_host(self, key: str) -> None:
        """Take another host key, as on another host."""
        (self._directory / "host-key").write_text(key)

    def fail(self, mode: str) -> None:
        """Fail from now on: `refuse` at once, `hang`, `no-tpm` with a TPM, `forgets` by losing a byte; "" works."""
        (self._directory / "mode").write_text(mode)

    @property
    def calls(self) -> list[str]:
        """The arguments of every call."""
        calls = self._directory / "calls"
        return calls.read_text().splitlines() if calls.exists() else []
