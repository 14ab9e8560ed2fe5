"""Reading and writing of small files without following links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hive_core.infra.storage import files


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("path_only", [False, True])
def test_only_directories_are_opened(tmp_path: Path, path_only: bool) -> None:
    """A directory is opened below a descriptor; a link to one, a file and a pipe are refused; nothing stays open."""
    (tmp_path / "directory" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("directory")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    before = open_files()
    with files.open_directory(tmp_path, path_only=path_only) as top:
        with files.open_directory("directory", top, path_only=path_only) as below:
            assert os.stat("inner", dir_fd=below).st_ino == (tmp_path / "directory" / "inner").stat().st_ino
            assert not os.get_inheritable(below)
        for name in ("link", "file", "pipe", "missing"):
            with pytest.raises(OSError, match=name), files.open_directory(name, top, path_only=path_only):
                pass
        with pytest.raises(ZeroDivisionError), files.open_directory("directory", top, path_only=path_only):
            raise ZeroDivisionError
    assert open_files() == before


def test_only_files_are_read(tmp_path: Path) -> None:
    """A directory, a pipe and a link are refused without waiting, and no descriptor of them stays open."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    before = open_files()
    for name in ("directory", "pipe", "link"):
        with pytest.raises(OSError, match=name):
            files.read(tmp_path / name)
    assert open_files() == before


def test_as_much_is_read_as_was_asked_for(tmp_path: Path) -> None:
    """A file is read up to the limit; a missing file is None."""
    path = tmp_path / "file"
    assert files.read(path) is None
    path.write_bytes(b"a\xff")
    before = open_files()
    assert files.read(path) == "a\N{REPLACEMENT CHARACTER}"
    assert files.read_bytes(path, 1) == b"a"
    assert open_files() == before


def test_a_pipe_in_the_files_place_is_replaced(tmp_path: Path) -> None:
    """What is no file has no text, not even an empty one."""
    path = tmp_path / "file"
    os.mkfifo(path)
    assert files.replace(path, "", 0o600)
    assert path.is_file()


def test_what_is_right_already_is_not_touched(tmp_path: Path) -> None:
    """A file with the text and the mode keeps its inode and its time of change; another mode alone is put right."""
    path = tmp_path / "file"
    umask = os.umask(0o077)
    try:
        assert files.replace(path, "text", 0o755)
        before = path.stat()
        assert before.st_mode & 0o7777 == 0o755  # Whatever the umask.
        assert not files.replace(path, "text", 0o755)
        assert path.stat() == before
        path.chmod(0o700)
        assert files.replace(path, "text", 0o755)
        assert path.stat().st_mode & 0o7777 == 0o755
    finally:
        os.umask(umask)
