"""The distribution's Chromium, and pages in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def chromium() -> str:
    """Where Chromium is; skips the test where it is not."""
    for name in NAMES:
        if (path := shutil.which(name)) is not None:
            return path
    pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")


def arguments() -> list[str]:
    """Switches for a process without a screen; root has no sandbox of Chromium's to run in."""
    usual = ["--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    return [*usual, "--no-sandbox"] if os.geteuid() == 0 else usual


def shot(directory: Path, name: str) -> str:
    """Where a screenshot goes."""
    return str(directory / f"{name}.png")
