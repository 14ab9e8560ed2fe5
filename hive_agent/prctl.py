"""The three process attributes of Linux that keep a harness and its programs from outliving each other."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

# Loaded before any fork: the child may not allocate or lock between fork and exec.
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def follow_parent(parent_pid: int) -> bool:
    """Get SIGTERM when the parent ends. False if it has ended already (this process has another parent now)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent_pid


def die_with_parent() -> None:
    """Get SIGKILL when the parent ends: for a child, between fork and exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans(adopt: bool) -> None:
    """Become the parent of every descendant whose own parent ends, so that none gets out of sight; or stop that."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(adopt))
