"""How soon what was approved runs in a container, and how soon a crash is known, in a systemd host of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.bench_directory import ROOT, say
from tests.benchmarks.figure import Bound, Figure

_HOST = ROOT / "tests/system/host.sh"
_MEASURING = "tests.benchmarks.containers_in_host"
_NO_HOST = 77
_WHAT = {
    "approval": "approval of what is built until the container is up on it",
    "rollback": "rollback until the container is up on what was there before",
    "crash": "a container's first process is killed until the manager has the message",
}


def run(directory: Path) -> list[Figure]:
    """The rounds run in the booted host; where none can be booted, each figure says why."""
    result = directory / "result.json"
    why_not = _measure(result)
    found: dict[str, list[float]] = json.loads(result.read_text()) if not why_not else {}
    restart, down = "systemctl stop, start", "systemd tells of its end"
    soon, at_once = Bound("at most", 0.3, "difference"), Bound("at most", 0.2, "value")
    rows = (("approval", restart, soon), ("rollback", restart, soon), ("crash", down, at_once))
    return [
        Figure(_WHAT[key], "s", found.get(key, ()), found.get(f"beside {key}", ()), beside, bound, why_not)
        for key, beside, bound in rows
    ]


def _measure(result: Path) -> str:
    """Have the rounds run; empty, or why they cannot be."""
    if importlib.util.find_spec("pydbus") is None:
        return "pydbus is not installed (the extra `nixos`)"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    root = os.environ.get("HIVE_TEST_ROOT")
    of_release = ["--root", root] if root else []
    # In the host there is nothing else to write to that stays.
    done = subprocess.run(
        [str(_HOST), *of_release, "env", f"PYTHONPATH={ROOT}", "python3", "-m", _MEASURING, str(result)],
        cwd=result.parent,
        env={**os.environ, "PATH": path},
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode == _NO_HOST:
        return done.stderr.strip().rpartition("\n")[2]
    if done.returncode != 0:
        say(done.stderr.strip())
        raise RuntimeError(f"the measuring in the systemd host ended with exit code {done.returncode}, see above")
    return ""
