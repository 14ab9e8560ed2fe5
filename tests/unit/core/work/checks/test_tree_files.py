"""The files of trees, also of hostile ones, as checks find them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.work.checks import tree_files
from hive_core.work.checks.tree_files import write_tree_files
from tests.unit.core.work.work_repository import WorkRepository

FILE, PROGRAM, LINK, SUBMODULE = "100644", "100755", "120000", "160000"
MOST = 1024 * 1024
COMMIT = "1" * 40


@pytest.fixture
def repository(tmp_path: Path) -> WorkRepository:
    return WorkRepository(tmp_path / "web.git")


def test_everything_is_written_as_it_is_stored(repository: WorkRepository, tmp_path: Path) -> None:
    """Files, executable bits, links, submodules and directories are there, and no attribute changes or hides one."""
    attributes = "* text eol=crlf ident export-subst filter=evil working-tree-encoding=UTF-16\nhidden export-ignore\n"
    tree = repository.tree(
        {
            ".gitattributes": (FILE, attributes),
            "a/b/c.txt": (FILE, "line\n$Id$ $Format:%H$\n"),
            "a/run": (PROGRAM, "#!/bin/sh\n"),
            "hidden": (FILE, "seen"),
            "link": (LINK, "a/b/c.txt"),
            "out": (LINK, "/etc"),
            "vendor/lib": (SUBMODULE, COMMIT),
            "\u00fc \\n\"'": (FILE, "odd"),
        }
    )
    old = os.umask(0o077)
    try:
        write_tree_files(repository.path, tree, tmp_path / "files", MOST)
    finally:
        os.umask(old)
    files = tmp_path / "files"
    assert (files / "a/b/c.txt").read_bytes() == b"line\n$Id$ $Format:%H$\n"
    assert stat.S_IMODE((files / "a/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((files / "hidden").stat().st_mode) == 0o644
    assert stat.S_IMODE((files / "a").stat().st_mode) == 0o755
    assert (str((files / "link").readlink()), str((files / "out").readlink())) == ("a/b/c.txt", "/etc")
    assert list((files / "vendor/lib").iterdir()) == []
    assert (files / "\u00fc \\n\"'").read_text() == "odd"


def test_directories_count_against_the_disk(repository: WorkRepository, tmp_path: Path) -> None:
    """A tree of tiny files in very many directories is refused before anything is written."""
    tree = repository.tree({f"{name}/" + "d/" * 99 + "file": (FILE, "x") for name in "abcdef"})
    with pytest.raises(HiveError, match="files take up") as refused:
        write_tree_files(repository.path, tree, tmp_path / "files", 500 * 4_096)
    assert refused.value.code == "too_large" and not (tmp_path / "files").exists()
    write_tree_files(repository.path, tree, tmp_path / "files", 700 * 4_096)


def test_nothing_is_written_through_a_link(repository: WorkRepository, tmp_path: Path) -> None:
    """A tree that has a name twice, as a link and as a directory, writes nothing outside, in either order."""
    outside = tmp_path / "outside"
    outside.mkdir()
    inner = repository.tree({"file": (FILE, "x")})
    link, directory = (LINK, "a", repository.blob(str(outside))), ("40000", "a", inner)
    for number, entries in enumerate(([link, directory], [directory, link])):
        with pytest.raises(HiveError) as refused:
            write_tree_files(repository.path, repository.raw_tree(entries), tmp_path / str(number), MOST)
        assert refused.value.code == "bad_tree"
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", [".git", ".GIT", "..", "."])
def test_names_that_lead_elsewhere_are_refused(repository: WorkRepository, tmp_path: Path, name: str) -> None:
    """Names that git itself would never check out are refused."""
    inner = repository.tree({"file": (FILE, "x")})
    for entry in (("40000", name, inner), (FILE, name, repository.blob("x")), (LINK, name, repository.blob("/etc"))):
        with pytest.raises(HiveError) as refused:
            write_tree_files(repository.path, repository.raw_tree([entry]), tmp_path / "files", MOST)
        assert refused.value.code == "bad_tree"
        if (tmp_path / "files").exists():
            (tmp_path / "files").rmdir()


def test_what_a_file_system_cannot_hold_is_refused(repository: WorkRepository, tmp_path: Path) -> None:
    """Names and link targets that are too long, and links to nothing, are refused in words."""
    bad = [{"n" * 300: (FILE, "x")}, {"l": (LINK, "t" * 5000)}, {"l": (LINK, "")}, {"l": (LINK, "a\0b")}]
    for number, entries in enumerate(bad):
        with pytest.raises(HiveError, match="cannot be written") as refused:
            write_tree_files(repository.path, repository.tree(entries), tmp_path / str(number), MOST)
        assert refused.value.code == "bad_tree"


def test_sizes_are_limited(repository: WorkRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many bytes or files are refused before anything is written, also if one object is there many times."""
    tree = repository.tree({str(number): (FILE, "x" * 1024) for number in range(20)})
    with pytest.raises(HiveError, match="12,288 bytes or more") as refused:
        write_tree_files(repository.path, tree, tmp_path / "files", 10 * 1024)
    assert refused.value.code == "too_large"
    monkeypatch.setattr(tree_files, "MOST_FILES", 10)
    with pytest.raises(HiveError) as refused:
        write_tree_files(repository.path, tree, tmp_path / "files", MOST)
    assert refused.value.code == "too_many_files"
    assert not (tmp_path / "files").exists()
