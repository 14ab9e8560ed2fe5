"""Programs in the sandbox of a running agent, with the rights that the agent has there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.real_daemon import Daemon
from tests.unit.core.runtimes.local.local_hive import why_no_bubblewrap

needs_bubblewrap = pytest.mark.skipif(bool(why_no_bubblewrap()), reason=why_no_bubblewrap() or "it works")

_WITHOUT_CAPABILITIES = """
import ctypes, os, struct
_libc = ctypes.CDLL(None, use_errno=True)
_header = struct.pack("Ii", 0x20080522, 0)
_sets = struct.pack("6I", *[0] * 6)
assert _libc.capset(_header, _sets) == 0
os.chdir("/state")
"""
"""A process that enters a user namespace has all capabilities in it, and an agent has none."""


async def run_inside(daemon: Daemon, agent: str, program: str, *arguments: str) -> Any:
    """Run a Python program in the agent's namespaces; return what it prints, as JSON."""
    pid = (await daemon.agents())[agent]["pid"]
    enter = ["nsenter", f"--target={pid}", "--user", "--mount", "--pid", "--net", "--ipc", "--wd=/"]
    if os.geteuid() != 0:
        enter.append("--preserve-credentials")
    line = [*enter, sys.executable, "-I", "-c", _WITHOUT_CAPABILITIES + program, *arguments]
    done = await asyncio.to_thread(subprocess.run, line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def writable_directories(daemon: Daemon, agent: str) -> set[tuple[int, int]]:
    """Return device and inode of every directory that is mounted for writing in the agent's sandbox."""
    pid = (await daemon.agents())[agent]["pid"]
    return await asyncio.to_thread(_writable, pid)


def _writable(pid: int) -> set[tuple[int, int]]:
    found = set()
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        # The fifth field is the mount point, the sixth its options (proc_pid_mountinfo(5)).
        point, options = line.split()[4:6]
        if "rw" in options.split(","):
            found.add(identity(Path(f"/proc/{pid}/root{point}")))
    return found


def identity(path: Path) -> tuple[int, int]:
    """Return device and inode of what the path leads to."""
    status = path.stat()
    return status.st_dev, status.st_ino
