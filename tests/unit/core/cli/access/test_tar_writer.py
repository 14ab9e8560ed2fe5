"""Tar streams of a tree in which an agent can write."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hive_core.cli.access.tar_writer import TarWriter


class FakeStream:
    """A stream that keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.end = None

    def write(self, data: bytes) -> bool:
        self.written += data
        return True


def written(place: Path) -> tuple[dict[str, bytes], list[str]]:
    """Return the files and links of the stream of a tree, by name, and what was left out."""
    stream = FakeStream()
    writer = TarWriter(stream)  # type: ignore[arg-type]
    writer.write(place, "tree")
    found = {}
    with tarfile.open(fileobj=io.BytesIO(stream.written)) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            found[member.name] = b"" if content is None else content.read()
    return found, writer.left_out


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_link_that_is_put_in_place_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What an agent replaces by a link after it was looked at reaches no file of the person who copies."""
    place, outside = tmp_path / "place", tmp_path / "outside"
    place.mkdir()
    outside.mkdir()
    (outside / "key").write_text("secret")
    bait = place / "bait"
    bait.mkdir() if kind == "directory" else bait.write_text("bait")
    look = os.stat

    def replace(path: Any, **options: Any) -> os.stat_result:
        found = look(path, **options)
        if path == "bait":
            bait.rename(tmp_path / "gone")
            bait.symlink_to(outside if kind == "directory" else outside / "key")
        return found

    monkeypatch.setattr(os, "stat", replace)
    found, left_out = written(place)
    assert list(found) == ["tree"]
    assert [line.partition(": ")[0] for line in left_out] == [str(bait)]


def test_a_tree_is_written_whole(tmp_path: Path) -> None:
    """Files, directories and links are written; a link that names the tree is followed; no descriptor is left open."""
    place = tmp_path / "place"
    (place / "below" / "empty").mkdir(parents=True)
    (place / "below" / "file").write_bytes(b"x" * 1_000)
    (place / "link").symlink_to("below/file")
    os.mkfifo(place / "fifo")
    named = tmp_path / "named"
    named.symlink_to(place)
    before = len([*Path("/proc/self/fd").iterdir()])
    found, left_out = written(named)
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert found == {
        **dict.fromkeys(("tree", "tree/below", "tree/below/empty", "tree/link"), b""),
        "tree/below/file": b"x" * 1_000,
    }
    assert left_out == [f"{named}/fifo: it is a socket, a FIFO or a device"]
