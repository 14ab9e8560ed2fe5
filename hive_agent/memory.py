"""Gives back to the system what a start or a turn needed and an idle harness does not."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Callable
from typing import Any

_QUIET_SECONDS = 1.0
_trim: Callable[[int], Any] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Of the GNU C library only (malloc_trim(3)). Others give back by themselves."""


def give_back() -> None:
    """Free what nothing refers to any more, and let go of free memory. Takes some hundredths of a second."""
    gc.collect()
    if _trim is not None:
        _trim(0)


class Tidying:
    """Gives memory back once the harness has been at rest for a moment; work that comes sooner is not kept waiting."""

    def __init__(self) -> None:
        self._later: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """The harness is at rest."""
        self.not_now()
        self._later = asyncio.get_running_loop().call_later(_QUIET_SECONDS, give_back)

    def not_now(self) -> None:
        """The harness is at work."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
