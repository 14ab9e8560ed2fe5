"""Gives back to the system what a start or a turn needed and an idle harness does not."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

_trim: Callable[[int], Any] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Of the GNU C library only (malloc_trim(3)). Others give back by themselves."""


def give_back() -> None:
    """Free what nothing refers to any more, and let go of free memory. Takes some hundredths of a second."""
    gc.collect()
    if _trim is not None:
        _trim(0)
