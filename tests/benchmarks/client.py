"""A client in a process of its own, which carries out one round of a benchmark whenever it is told to."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.benchmarks.bench_directory import ROOT

Round = Callable[[int], Awaitable[object]]


class Client:
    """The benchmark's end of the client."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def round(self, size: int) -> Any:
        """Have a round of `size` carried out; what it found."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{size}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the client ended with exit code {self._process.wait()}, see above")
        return json.loads(answer)


@contextmanager
def client(module: str, *arguments: str) -> Iterator[Client]:
    """Run `module` of this package as a client; it is ready when this returns."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            running = Client(process)
            running.round(0)
            yield running
        finally:
            process.kill()


async def serve(carry_out: Round) -> None:
    """The client's end: a round for each number on stdin, its findings as a line of JSON on stdout."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        found = await carry_out(int(line))
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
