"""The keeper's files: the output is bounded, and a full disk does not end the program."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hive_agent.programs import keeper


def test_output_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last output is kept in two files of at most a megabyte and one write each."""
    monkeypatch.setattr(keeper, "LOG_BYTES", 1_000)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        log = keeper.OutputLog(descriptor)
        for number in range(1_000):
            log.write(b"%05d\n" % number)
        sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
        assert set(sizes) == {"log", "log.1"} and max(sizes.values()) < 1_100
        assert (tmp_path / "log").read_bytes().endswith(b"00999\n")
    finally:
        os.close(descriptor)


def test_output_through_a_link_is_dropped(tmp_path: Path) -> None:
    """A link in place of the file is not followed, and writing goes on when it is gone."""
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        log = keeper.OutputLog(descriptor)
        log.write(b"one\n")
        assert not (tmp_path / "elsewhere").exists()
        (tmp_path / "log").unlink()
        log.write(b"two\n")
        assert (tmp_path / "log").read_bytes() == b"two\n"
    finally:
        os.close(descriptor)
