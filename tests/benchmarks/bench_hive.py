"""The real daemon as a process of its own, and the operator's few requests that the benchmarks need."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_core.settings import Budgets
from tests.benchmarks.bench_directory import ROOT

_PATIENCE = 60.0


@dataclass
class BenchHive:
    """A running daemon. `ready_seconds` is from its start until it said READY, `answered_seconds` until it answered."""

    process: subprocess.Popen[bytes]
    state_dir: Path
    ready_seconds: float = 0.0
    answered_seconds: float = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def host_socket(self) -> Path:
        return self.state_dir / "run/host.sock"

    def core_socket(self, name: str) -> Path:
        return self.state_dir / "run/agents" / name / "core.sock"

    def ask(self, method: str, path: str, content: object = None, agent: str | None = None) -> Any:
        """One request of the operator, or of an agent on its own socket; raises RuntimeError if it is refused."""
        connection = http.client.HTTPConnection("hive", timeout=_PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_PATIENCE)
        connection.sock.connect(str(self.host_socket if agent is None else self.core_socket(agent)))
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise RuntimeError(f"{method} {path}: {text.decode()}")
        return json.loads(text)

    def spawn(self, *names: str, start: bool = False) -> None:
        """Make agents; without `start` they have a socket and an inbox, and no harness."""
        for name in names:
            self.ask("POST", "/v1/agents", {"name": name, "start": start})


@contextmanager
def hive(state_dir: Path, more: Mapping[str, str] | None = None) -> Iterator[BenchHive]:
    """Start a daemon over `state_dir`, wait until it is ready, and stop it in the end; its environment has `more`."""
    notify = state_dir.with_name(f"{state_dir.name}.notify")
    environment = {
        # What the caller has set for a hive of their own must not reach this one.
        **{key: value for key, value in os.environ.items() if not key.startswith("HIVE_")},
        "HIVE_INBOX_LIMIT": "100000000",
        "HIVE_BUDGETS": json.dumps(dict.fromkeys(Budgets.model_fields, 10**12)),
        "NOTIFY_SOCKET": str(notify),
        **(more or {}),
    }
    command = [sys.executable, "-m", "hive_core", "serve", "--state-dir", str(state_dir)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, state_dir.with_suffix(".log").open("ab") as log:
        told.bind(str(notify))
        told.settimeout(_PATIENCE)
        started = time.perf_counter()
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stderr=log) as process:
            try:
                running = BenchHive(process, state_dir)
                while b"READY=1" not in told.recv(4096):
                    pass
                running.ready_seconds = time.perf_counter() - started
                running.ask("GET", "/healthz")
                running.answered_seconds = time.perf_counter() - started
                yield running
            finally:
                notify.unlink()
                _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
