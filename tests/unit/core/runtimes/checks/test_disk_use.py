"""What is measured of a directory in which a hostile program writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hive_core.runtimes.checks.disk_use import NestedTooDeep, used_bytes

MIB = 1024 * 1024


def test_all_files_are_counted_and_no_link_is_followed(tmp_path: Path) -> None:
    """Files at any depth count, what a link leads to does not, and what is not there takes nothing."""
    (tmp_path / "elsewhere").write_bytes(b"x" * 8 * MIB)
    output = tmp_path / "output"
    (output / "a/b").mkdir(parents=True)
    (output / "a/b/file").write_bytes(b"x" * 2 * MIB)
    (output / "link").symlink_to(tmp_path / "elsewhere")
    (output / "directory").symlink_to(tmp_path)
    os.mkfifo(output / "pipe")
    assert 2 * MIB <= used_bytes([output, tmp_path / "missing", output / "link"]) < 3 * MIB


def test_directories_without_end_are_not_measured(tmp_path: Path) -> None:
    """Directories that take too many descriptors are an error, not a crash."""
    Path(tmp_path, *"d" * 300).mkdir(parents=True)
    with pytest.raises(NestedTooDeep):
        used_bytes([tmp_path])
