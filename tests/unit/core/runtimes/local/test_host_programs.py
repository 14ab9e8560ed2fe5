"""Packages whose programs this host has."""

from __future__ import annotations

from pathlib import Path

from hive_core.runtimes.local.host_programs import missing_programs


def test_programs_are_found_by_their_packages(tmp_path: Path) -> None:
    """A package is there if its program is, whatever the version in its name; what is missing is named with both."""
    for name in ("node", "uv", "python3"):
        (tmp_path / name).touch(0o755)
    wanted = ["nodejs", "nodejs_22", "uv", "python312", "ripgrep", "python3Packages.black", "uv2nix"]
    assert missing_programs(wanted, str(tmp_path)) == [
        "ripgrep (the program rg)",
        "python3Packages.black (the program black)",
        "uv2nix",
    ]
