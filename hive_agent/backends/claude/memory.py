"""Returning freed memory to the system, for an idle harness."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

_trim: Callable[[int], Any] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Exists only in the GNU C library (malloc_trim(3)). Other libraries return memory automatically."""


def free_unused() -> None:
    """Collect garbage and return free memory to the system, which takes some hundredths of a second."""
    gc.collect()
    if _trim is not None:
        _trim(0)
