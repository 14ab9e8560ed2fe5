"""Listeners of services for people."""

from __future__ import annotations

import errno
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hive_core.services.listening import listen

SAYS_WHERE = "import socket; print(socket.socket(fileno=3).getsockname()[0])"


def start(address: str) -> subprocess.CompletedProcess[str]:
    """Start a program on a listener, which prints the address that it has inherited."""
    line = [sys.executable, "-P", "-m", "hive_core.services.listening", "3", address, "--"]
    return subprocess.run(
        [*line, sys.executable, "-c", SAYS_WHERE], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_program_inherits_its_listener() -> None:
    """The program that is started has the listener, and a taken address is told with its reason."""
    assert start("127.0.0.1:0").stdout == "127.0.0.1\n"
    with listen("127.0.0.1:0") as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        failed = start(address)
        assert failed.returncode == 1
        assert failed.stderr == f"cannot listen on {address}: Address already in use\n"


def test_a_unix_socket_of_a_killed_process_is_replaced() -> None:
    """A socket on which nobody listens gives way, one that is in use does not, and its group may use it."""
    with tempfile.TemporaryDirectory(prefix="hl") as place:
        path = f"{place}/web.sock"
        with listen(path):
            assert stat.S_IMODE(Path(path).stat().st_mode) == 0o660
            with pytest.raises(OSError) as refusal:
                listen(path)
            assert refusal.value.errno == errno.EADDRINUSE
        with listen(path), socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_file_is_never_removed_for_a_socket(tmp_path: Path) -> None:
    """A file at the path of the socket stays, and the address is refused."""
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(OSError):
        listen(str(file))
    assert file.read_text() == "kept"


@pytest.mark.parametrize("address", ["7000", "127.0.0.1:", "127.0.0.1:65536", ":7000", "127.0.0.1:-1"])
def test_what_is_no_address(address: str) -> None:
    """Text that is no address is refused as such."""
    with pytest.raises(ValueError):
        listen(address)
