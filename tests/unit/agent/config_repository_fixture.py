"""A configuration repository for tests, as the daemon makes one at a spawn."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def git(directory: Path, *arguments: str) -> str:
    """Run git as a person would, without the settings of this machine."""
    identity = {
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@x",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@x",
    }
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", **identity}
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def config_place(directory: Path) -> Path:
    """A repository with the three files and one commit."""
    directory.mkdir()
    for name in ("agent.toml", "prompt.md", "agent.nix"):
        (directory / name).write_text(f"# {name}\n")
    git(directory, "init", "--quiet", "--initial-branch=main")
    git(directory, "add", ".")
    git(directory, "commit", "--quiet", "--message=the first")
    return directory
