"""Programs beside the hive's own, such as git, that the demo runs."""

from __future__ import annotations

import os
import subprocess

import view
from failure import DemoFailed

_SECONDS = 30.0


def run(*line: str) -> list[str]:
    """Run a program; returns the lines of its output. Fails if it fails."""
    done = subprocess.run(  # noqa: S603 - the demo's own words
        line,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        env=_environment(),
    )
    if done.returncode != 0:
        raise DemoFailed(f"`{' '.join(line[:4])}` failed", done.stderr.splitlines())
    return done.stdout.splitlines()


def shown(*line: str) -> list[str]:
    """Show a command and run it; returns the lines of its output."""
    view.shell(*line)
    return run(*line)


def _environment() -> dict[str, str]:
    """Git as its user has it, but for a pager and for a repository that the environment may name."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | {"GIT_PAGER": "cat"}
