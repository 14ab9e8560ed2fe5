"""`./dev demo` as a program: run, looked at from outside, and checked for what it leaves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[3]
DEMO = [sys.executable, str(ROOT / "docs/demo/run.py")]
SECONDS = 100.0
"""Longest that a demo may take here; it takes some seconds."""


def environment(place: Path, **more: str) -> dict[str, str]:
    """A user's environment, without access to Claude Code but what is in `more`."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH") if key in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(place), "HOME": str(place), "TERM": "xterm", **more}


def processes(place: Path) -> list[psutil.Process]:
    """Everything that runs for a demo in `place`: its path is on the command line or in the environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(
                str(place) in text for text in [*process.cmdline(), *process.environ().values()]
            ):
                found.append(process)
    return found


def assert_nothing_left(place: Path) -> None:
    assert processes(place) == []
    assert list(place.iterdir()) == []


def run(place: Path, *arguments: str, limit: float = SECONDS, **more: str) -> subprocess.CompletedProcess[str]:
    """The demo without a terminal."""
    return subprocess.run(
        [*DEMO, *arguments],
        cwd=ROOT,
        env=environment(place, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


def assert_job_done(shown: str) -> None:
    """The whole job was shown, in its order, and summed up."""
    steps = ["operator → hm1nd", "hm1nd → ada", "ada → bob", "bob → ada", "ada → hm1nd", "hm1nd → operator", "Done."]
    places = [shown.index(step) for step in steps]
    assert places == sorted(places)
    assert re.search(r"^ +messages +6,", shown, re.MULTILINE)
    assert re.search(r"^ +agents +hm1nd, ada, bob$", shown, re.MULTILINE)
    assert len(re.findall(r"^ +confinement +(bubblewrap|plain processes, not confined): \S", shown, re.MULTILINE)) == 2


def assert_gate_shown(shown: str) -> None:
    """A change was proposed, reviewed, approved and deployed; another one was denied with its reason; git tells it."""
    steps = [
        "operator → ada",
        "system → hm1nd",
        "Review proposal ada/1: approve or deny it (state built).",
        "turn_timeout: 3600 -> 600 (lowered)",
        "Proposal ada/1 is deployed.",
        "ada → operator",
        "operator → bob",
        "Review proposal bob/1: approve or deny it (state built).",
        "tools: added Bash, Write",
        "Proposal bob/1 was denied by hm1nd.",
        "> bob reads and writes messages",
        "bob → operator",
        "tag: deployed/1",
        "tag denied/1",
        "Done.",
    ]
    at = 0
    for step in steps:
        at = shown.find(step, at)
        assert at >= 0, f"{step!r} is not shown after what comes before it:\n{shown}"
    assert re.search(r"^ +proposal +ada/1 deployed, approved by hm1nd$", shown, re.MULTILINE)
    assert re.search(r"^ +proposal +bob/1 denied: bob ", shown, re.MULTILINE)
