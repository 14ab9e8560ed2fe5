"""The output of a transfer: its messages and its progress."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress

from hive_core.infra.processes import readable

_CHUNK = 64 * 1024
_KEPT = 16 * 1024
"""Bytes of the end of git's messages that are kept."""
_PROGRESS = re.compile(
    r"(Receiving objects|Resolving deltas|Writing objects): +(\d+)% \((\d+)/(\d+)\)(?:, ([\d.]+ \w+))?"
)
_WORDS = {"Receiving objects": "receiving", "Resolving deltas": "resolving deltas", "Writing objects": "sending"}

Report = Callable[[str], None]
"""Gets the progress in words."""


def progress_of(output: str) -> str:
    """Return the progress that git has told last, in the hive's words; empty if there is none.

    Lines of the upstream itself begin with `remote: `, so it cannot write such a line.
    """
    for line in reversed(re.split(r"[\r\n]+", output)):
        if (found := _PROGRESS.match(line)) is not None:
            size = f", {found[5]}" if found[5] else ""
            return f"{_WORDS[found[1]]} {found[2]} % ({found[3]} of {found[4]} objects{size})"
    return ""


class MessageTail:
    """Keeps the end of git's messages, and reports the progress that they tell."""

    def __init__(self, report: Report) -> None:
        self.text = ""
        self._report = report
        self._last = ""

    async def follow(self, descriptor: int, alive: Callable[[], None]) -> None:
        while True:
            await readable(descriptor)
            with suppress(BlockingIOError):
                chunk = os.read(descriptor, _CHUNK)
                if not chunk:
                    return
                alive()
                self.text = (self.text + chunk.decode(errors="replace"))[-_KEPT:]
                progress = progress_of(self.text)
                if progress and progress != self._last:
                    self._last = progress
                    self._report(progress)


async def read_some(descriptor: int, most: int, alive: Callable[[], None]) -> bytes:
    """Read a pipe to its end, or until it has given more than `most` bytes, of which there may be none."""
    found = bytearray()
    while True:
        await readable(descriptor)
        with suppress(BlockingIOError):
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                return bytes(found)
            alive()
            if most:
                found += chunk
                if len(found) > most:
                    return bytes(found)
