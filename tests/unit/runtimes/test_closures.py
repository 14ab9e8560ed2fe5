"""Closures on disk, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from hive_core.runtimes.closures import Closures
from hive_core.runtimes.comparing import compare

TREE = "a" * 40


def write(place: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place


@pytest.fixture
def closures(tmp_path: Path) -> Closures:
    return Closures(tmp_path / "closures", tmp_path / "scratch")


def test_a_closure_is_read_only(closures: Closures) -> None:
    """Files in a closure are read-only, and those that could be run still can."""
    made = write(closures.workplace() / "files", {"a": b"1", "bin/run": b"2"})
    (made / "bin" / "run").chmod(0o700)
    path = closures.put(made, "ada", TREE)
    assert path == closures.path("ada", TREE)
    assert [(path / name).stat().st_mode & 0o777 for name in ("a", "bin/run")] == [0o444, 0o555]


def test_the_first_stays(closures: Closures) -> None:
    """Another build of the same tree changes nothing of a closure that is there already."""
    first = closures.put(write(closures.workplace() / "files", {"a": b"1"}), "ada", TREE)
    inode = (first / "a").stat().st_ino
    assert closures.put(write(closures.workplace() / "files", {"a": b"1"}), "ada", TREE) == first
    assert (first / "a").stat().st_ino == inode


def test_work_cut_off_is_no_closure(closures: Closures, tmp_path: Path) -> None:
    """What a killed build leaves behind is not taken for a closure, and is in no later build's way."""
    write(closures.workplace() / "files", {"a": b"half"})
    assert not closures.has(str(closures.path("ada", TREE)))
    path = closures.put(write(closures.workplace() / "files", {"a": b"whole"}), "ada", TREE)
    assert (path / "a").read_bytes() == b"whole"


def test_removal_is_whole_and_of_ours_only(closures: Closures, tmp_path: Path) -> None:
    """What is removed goes with its read-only files; the agent's directory goes with its last closure."""
    closures.put(write(closures.workplace() / "files", {"d/a": b"1"}), "ada", TREE)
    closures.put(write(closures.workplace() / "files", {"d/a": b"1"}), "bob", TREE)
    closures.keep("ada", [])
    assert [path.name for path in (tmp_path / "closures").iterdir()] == ["bob"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"a": b"1\n2\n"}, {"a": b"1\n3\n4\n"}, ["a changed (2 lines added, 1 removed)"]),
        ({"a": b"1\n2\n"}, {"a": b"2\n1\n"}, ["a changed (the order of lines)"]),
        ({"a": b"1\n"}, {"a": b"1"}, ["a changed (only the ends of lines)"]),
        ({"a": b"\0"}, {"a": b"\0\0"}, ["a changed (from 1 to 2 bytes)"]),
        ({"a": b"x" * 300_000}, {"a": b"y" * 300_000}, ["a changed (from 300,000 to 300,000 bytes)"]),
        ({"a": b"x" * 300_000}, {"a": b"x" * 300_000}, []),
        ({"b/c": b"1\n"}, {"d": b""}, ["b/c removed (1 line)", "d added (0 lines)"]),
    ],
)
def test_differences_in_words(
    tmp_path: Path, old: Mapping[str, bytes], new: Mapping[str, bytes], words: list[str]
) -> None:
    """Each file that differs is told with how much of it does; large and binary ones by their size."""
    assert compare(write(tmp_path / "old", old), write(tmp_path / "new", new)) == words


def test_a_mode_is_a_difference(tmp_path: Path) -> None:
    """A file that becomes executable is told, also if nothing else of it changed."""
    old, new = write(tmp_path / "old", {"a": b"1"}), write(tmp_path / "new", {"a": b"1"})
    (new / "a").chmod(0o755)
    assert compare(old, new) == ["a is now executable"]


def test_words_are_bounded(tmp_path: Path) -> None:
    """Of a thousand files not each gets a line."""
    words = compare(None, write(tmp_path / "new", {f"{number}": b"" for number in range(1_000)}))
    assert (len(words), words[-1]) == (200, "and 801 more files")
