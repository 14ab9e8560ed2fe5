"""Where tests that wait for the disk keep their files: in memory, since no test cuts the power."""

from __future__ import annotations

import os
from pathlib import Path

_SHARED = Path("/dev/shm")

MEMORY = _SHARED if os.access(_SHARED, os.W_OK) else None
"""A directory in memory to make others in; None where there is none, which `tempfile` takes for its usual place.

It may be small and forbid programs, so it is for databases and small files only.
"""
