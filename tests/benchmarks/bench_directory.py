"""Where a benchmark works: a directory of its own on a real disk, and a way to tell how far it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""


@contextmanager
def workplace(parent: Path) -> Iterator[Path]:
    """A fresh directory in `parent` that is gone afterwards. Its path is short, as sockets are bound in it."""
    directory = Path(tempfile.mkdtemp(prefix="hb", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write_byte_code() -> None:
    """Have everything compiled, as every installation has it: a harness in its sandbox could not do it itself."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    everything = "import aiohttp.web, pydantic, hive_core.daemon, hive_core.cli.commands.host.host, hive_agent.main"
    subprocess.run([sys.executable, "-c", everything], check=True, cwd=ROOT)


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()
