"""Imports without OpenSSL, which takes 7 MB of each harness: it speaks on unix sockets only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NEEDS_IT = ("ssl", "_hashlib")


@contextmanager
def without_openssl() -> Iterator[None]:
    """Let modules that are imported within the block find no OpenSSL, as in a Python without it.

    asyncio and aiohttp do without TLS then, and hashlib has Python's own functions. Who imports `ssl` later finds it.
    Nothing changes for what is loaded already.
    """
    modules: dict[str, Any] = sys.modules
    hidden = [name for name in _NEEDS_IT if name not in modules]
    for name in hidden:
        modules[name] = None  # Importing it raises ImportError.
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]
