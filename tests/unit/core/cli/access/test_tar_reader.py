"""Tar streams of an agent that wants to write elsewhere."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hive_core.cli.access import tar_reader
from hive_core.cli.access.tar_reader import BadStream, TarReader

PARTS = st.sampled_from(["..", ".", "", "a", "b", "c", "top", "etc"])
PATHS = st.builds("/".join, st.lists(PARTS, min_size=1, max_size=5))
KINDS = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"Z"]
)
IN_TOP = st.one_of(PATHS, PATHS.map(lambda path: f"top/{path}"))
MEMBERS = st.lists(st.tuples(KINDS, IN_TOP, IN_TOP, st.integers(0, 0o7777)), max_size=12)


class FakeStream:
    """A stream of bytes that are there already."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, most: int) -> bytes:
        return self._content.read(most)

    def read_into(self, buffer: memoryview) -> int:
        return self._content.readinto(buffer)

    def read_exactly(self, length: int) -> bytes:
        return self._content.read(length)


def archive(members: list[tuple[bytes, str, str, int]]) -> bytes:
    """Return a tar stream, with headers as they are asked for."""
    made = io.BytesIO()
    for kind, name, link, mode in members:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.mode = kind, link, mode
        content = b"x" * 600 if kind == tarfile.REGTYPE else b""
        member.size = len(content)
        made.write(member.tobuf(tarfile.GNU_FORMAT) + content.ljust(-(-len(content) // 512) * 512, b"\0"))
    return made.getvalue() + bytes(1_024)


def test_a_stream_without_end_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy stops while the disk of the person has room for others, within a file and between many."""
    real, looks = os.fstatvfs, 3

    def nearly_full(descriptor: int) -> os.statvfs_result:
        nonlocal looks
        looks -= 1
        found = list(real(descriptor))
        found[4] = found[4] if looks >= 0 else 1
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "fstatvfs", nearly_full)
    monkeypatch.setattr(tar_reader, "_LOOK_BYTES", 100_000)
    one = tarfile.TarInfo("top")
    one.size = 10_000_000
    with pytest.raises(OSError, match="would fill the disk"):
        read(tmp_path, one.tobuf() + bytes(one.size + 1_024))
    assert (tmp_path / "copy").stat().st_size < 2_000_000
    looks, many, names = 3, tmp_path / "many", ["top", *(f"top/{number}" for number in range(100))]
    many.mkdir()
    with pytest.raises(OSError, match="would fill the disk"):
        read(many, archive([(tarfile.DIRTYPE, name, "", 0o755) for name in names]))
    assert len(list((many / "copy").iterdir())) < 60


def read(place: Path, stream: bytes) -> TarReader:
    top = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with TarReader(FakeStream(stream), top, "top", "copy") as reader:  # type: ignore[arg-type]
            reader.read_all()
    finally:
        os.close(top)
    return reader


def seen(place: Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of everything below a directory."""
    return {
        str(path.relative_to(place)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in place.rglob("*")
    }


@settings(max_examples=300)
@given(MEMBERS)
def test_no_stream_reaches_outside(members: list[tuple[bytes, str, str, int]]) -> None:
    """Whatever members a stream has, only the copy changes; no link leads out, nothing is setuid or a device."""
    with tempfile.TemporaryDirectory() as home:
        place = Path(home) / "place"
        place.mkdir()
        (Path(home) / "beside").write_text("beside")
        (place / "mine").write_text("mine")
        before = seen(Path(home))
        with suppress(BadStream, OSError):
            read(place, archive(members))
        after = {path: found for path, found in seen(Path(home)).items() if not path.startswith("place/copy")}
        assert after == before
        copy = place / "copy"
        for path in [copy, *copy.rglob("*")] if os.path.lexists(copy) else []:
            assert path.resolve().is_relative_to(copy.resolve()) or not path.is_symlink()
            assert path.is_symlink() or ((path.is_file() or path.is_dir()) and not path.stat().st_mode & 0o7000)


@given(st.binary(max_size=3_000))
def test_any_bytes_are_a_stream_or_refused(noise: bytes) -> None:
    """What is no tar stream ends the copy with BadStream, and with nothing else."""
    with tempfile.TemporaryDirectory() as home, suppress(BadStream):
        read(Path(home), noise)


def test_a_path_through_a_link_ends_the_copy(tmp_path: Path) -> None:
    """A stream cannot make a link and then write through it, also not through one that was there before."""
    outside = tmp_path / "outside"
    outside.mkdir()
    place = tmp_path / "place"
    (place / "copy").mkdir(parents=True)
    (place / "copy" / "there").symlink_to(outside)
    for members in (
        [(tarfile.DIRTYPE, "top", "", 0o755), (tarfile.SYMTYPE, "top/l", "m", 0), (tarfile.REGTYPE, "top/l/x", "", 0)],
        [(tarfile.DIRTYPE, "top", "", 0o755), (tarfile.REGTYPE, "top/there/x", "", 0o644)],
        [(tarfile.DIRTYPE, "top/there", "", 0o755)],
    ):
        with pytest.raises(BadStream):
            read(place, archive(members))
    assert list(outside.iterdir()) == []


def test_a_hard_link_to_a_link_is_left_out(tmp_path: Path) -> None:
    """A link that stays within the copy where it is cannot be moved to where it would lead out."""
    reader = read(
        tmp_path,
        archive(
            [
                (tarfile.DIRTYPE, "top", "", 0o755),
                (tarfile.DIRTYPE, "top/a", "", 0o755),
                (tarfile.DIRTYPE, "top/a/b", "", 0o755),
                (tarfile.SYMTYPE, "top/a/b/deep", "../../c", 0),
                (tarfile.LNKTYPE, "top/high", "top/a/b/deep", 0),
            ]
        ),
    )
    assert reader.left_out == ["copy/high: it is a link to something that is no file"]
    assert (tmp_path / "copy/a/b/deep").is_symlink()


def test_a_link_in_place_of_the_copy_is_left_out(tmp_path: Path) -> None:
    """What is copied as a single link leads to no file beside it."""
    (tmp_path / "mine").write_text("mine")
    reader = read(tmp_path, archive([(tarfile.SYMTYPE, "top", "mine", 0)]))
    assert reader.left_out == ["copy: it is a link that leads out of what is copied"]
    assert not os.path.lexists(tmp_path / "copy")


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    """An agent cannot open a private directory to others by being copied into it."""
    (tmp_path / "copy").mkdir(0o700)
    read(tmp_path, archive([(tarfile.DIRTYPE, "top", "", 0o777), (tarfile.DIRTYPE, "top/new", "", 0o755)]))
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("copy", "copy/new")]
    assert modes == [0o700, 0o755]


def test_members_that_repeat_take_no_memory(tmp_path: Path) -> None:
    """A stream without end that makes the same directory again and again is remembered once."""
    reader = read(tmp_path, archive([(tarfile.DIRTYPE, "top", "", 0o755)] * 5_000))
    assert len(reader._directories) == 1
