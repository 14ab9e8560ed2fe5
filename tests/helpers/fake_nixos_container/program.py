"""Shared parts of the fake: its release, its paths, its errors, and the start of other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

PROGRAM = os.environ.get("NIXOS_CONTAINER_PROGRAM", "nixos-container")
"""The program's path as it was called: messages begin with it."""
RELEASE = os.environ.get("NIXOS_CONTAINER_RELEASE", "25.11")
ROOT = Path(os.environ.get("NIXOS_CONTAINER_ROOT", "/"))
CONF_DIR = ROOT / "etc/nixos-containers"
STATE_DIR = ROOT / "var/lib/nixos-containers"
PROFILES = ROOT / "nix/var/nix/profiles/per-container"
GCROOTS = ROOT / "nix/var/nix/gcroots/per-container"
LOCK = ROOT / "run/lock/nixos-container"

# What a status happens to be in the real program: numbers that earlier calls of the system left behind.
ENOENT, ENOTTY, OTHER = 2, 25, 255


def die(text: str, status: int = OTHER) -> NoReturn:
    """End with a text as it is: most start with the program's name, some do not."""
    print(text, file=sys.stderr)  # noqa: T201 - a program
    sys.exit(status)


def fail(text: str, status: int = OTHER) -> NoReturn:
    """End with a text after the program's name."""
    die(f"{PROGRAM}: {text}", status)


def call(*command: str) -> int:
    """The exit status of a command; what it prints is ours."""
    environment = {**os.environ, "NIXOS_CONFIG": ""}
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    except FileNotFoundError:
        return -1


def output(*command: str) -> str:
    """What a command prints, however it ends."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
