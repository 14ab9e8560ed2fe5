"""The time from a key press to its echo, in a shell that runs on a terminal of this process."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.benchmarks.bench_directory import ROOT

KEYS = 1_000
PER_LINE = 40
SECONDS_BETWEEN = 0.01
"""Between two keys, so that each one finds everybody waiting, as with a person."""

_PATIENCE = 60.0
_READY = b"ready>"


def measure(ours: list[str], plain: list[str]) -> tuple[list[float], list[float]]:
    """Return the milliseconds for each key in the shells of two commands, which take turns."""
    found: tuple[list[float], list[float]] = ([], [])
    with _Shell.started(ours) as one, _Shell.started(plain) as other:
        for number in range(KEYS):
            for shell, samples in zip((one, other), found, strict=True):
                if number % PER_LINE == 0:
                    shell.begin_line()
                time.sleep(SECONDS_BETWEEN)
                samples.append(shell.press())
    return found


class _Shell:
    """A shell, and our end of its terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal

    @classmethod
    @contextmanager
    def started(cls, command: list[str]) -> Iterator[_Shell]:
        """Start a shell; it waits for keys when this yields."""
        ours, theirs = pty.openpty()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HIVE_")}
        process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env={**environment, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(theirs)
        try:
            shell = cls(ours)
            shell._set_prompt()
            yield shell
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    def begin_line(self) -> None:
        """Begin a new line, a comment."""
        os.write(self._terminal, b"\r")
        self._read_until(_READY)
        os.write(self._terminal, b"#")
        self._read_until(b"#")

    def press(self) -> float:
        """Press a key; returns the milliseconds until it is shown."""
        started = time.perf_counter()
        os.write(self._terminal, b"k")
        self._read_until(b"k")
        return 1_000 * (time.perf_counter() - started)

    def _set_prompt(self) -> None:
        # Written in two parts, so that the echo of this line is not taken for the prompt.
        os.write(self._terminal, b"bind 'set enable-bracketed-paste off'; PS1=rea'dy>'\r")
        self._read_until(_READY)

    def _read_until(self, expected: bytes) -> None:
        seen = b""
        while expected not in seen:
            if not select.select([self._terminal], [], [], _PATIENCE)[0]:
                raise RuntimeError(f"the shell shows {seen!r} and nothing more")
            seen += os.read(self._terminal, 4_096)
