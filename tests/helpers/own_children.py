"""The processes that a test has started, apart from those of other tests in the same worker (a browser, say)."""

from __future__ import annotations

from contextlib import suppress

import psutil


class OwnChildren:
    """Made at the beginning of a test: whatever this process starts afterwards is the test's."""

    def __init__(self) -> None:
        self._earlier = set(psutil.Process().children())

    def alive(self) -> list[psutil.Process]:
        """Return the children that have come since, each with its own children."""
        found: list[psutil.Process] = []
        for child in psutil.Process().children():
            if child not in self._earlier:
                with suppress(psutil.NoSuchProcess):
                    found += [child, *child.children(recursive=True)]
        return found
