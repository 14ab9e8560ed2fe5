"""What the daemon asks of its own process."""

from __future__ import annotations

import gc
import resource


def spare_the_collector() -> None:
    """Look for garbage less often: what is there after the start stays, and a request leaves next to no cycles."""
    gc.enable()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def allow_many_files() -> None:
    """Every agent costs a few descriptors; the usual soft limit of 1,024 is for programs that use select(2)."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
