"""The first check of an agent's repository: its files are those of a plain git repository.

The check follows no link and opens no file, so it is safe for any content. It gives clear errors where those of git are
not clear. It does not confine git: the sandbox does, also if the repository changes after the check.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.storage.files import open_directory
from hive_core.text import shown

_PACKS_MOST = 10_000
_SMALL = 4_096
_START = "make one in your configuration directory: git init, git add, git commit"
_PLAIN = "use an ordinary repository: move your files away, git clone or git init a new one, commit them there"


OBJECTS = Path(".git", "objects")
"""The path of the objects in a configuration directory."""


def check(top: Path, below: str = "", *, start: str = _START, lenders: re.Pattern[str] | None = None) -> None:
    """Raise `no_repository` or `bad_repository` unless a directory contains a plain repository.

    Args:
        top: The directory, which is surely no link, or the one above it.
        below: The name of the directory in `top`.
        start: The hint if there is no repository.
        lenders: The paths of the objects that the repository may borrow. git reads none of them here.
    """
    try:
        with ExitStack() as stack:
            directory = stack.enter_context(_directory(top, None, top.name))
            if below:
                directory = stack.enter_context(_directory(below, directory, below))
            git = stack.enter_context(_directory(".git", directory, ".git"))
            _check_objects(stack.enter_context(_directory("objects", git, ".git/objects")), lenders)
    except FileNotFoundError:
        raise HiveError("no_repository", "there is no git repository: .git/objects is missing", hint=start) from None
    except OSError as error:
        why = f"the git repository cannot be read: {error.strerror}"
        raise _bad(why, "see the owner and the mode of .git and what is in it") from None


def _check_objects(objects: int, lenders: re.Pattern[str] | None) -> None:
    # Git creates only directories here: up to 256 named by two digits, and `pack` and `info`.
    _each(objects, ".git/objects", 1_000, _check_top_entry)
    for name in ("pack", "info"):
        try:
            with _directory(name, objects, f".git/objects/{name}") as inside:
                check_entry = _check_pack if name == "pack" else partial(_check_info, inside, lenders)
                _each(inside, f".git/objects/{name}", _PACKS_MOST, check_entry)
        except FileNotFoundError:
            continue


def _check_top_entry(where: str, entry: os.DirEntry[str]) -> None:
    if re.fullmatch(r"[0-9a-f]{2}", entry.name) and not entry.is_dir(follow_symlinks=False):
        raise _bad(f"{where}/{entry.name} is {_kind(entry)}, no directory", _PLAIN)


def _check_pack(where: str, entry: os.DirEntry[str]) -> None:
    if not entry.is_file(follow_symlinks=False):
        raise _bad(f"{where}/{shown(entry.name)} is {_kind(entry)}, no plain file", _PLAIN)


def _check_info(info: int, lenders: re.Pattern[str] | None, where: str, entry: os.DirEntry[str]) -> None:
    if entry.name not in {"alternates", "http-alternates"}:
        return
    if lenders is not None and entry.name == "alternates":
        found = [line for line in _read_small(info, entry.name).split("\n") if lenders.fullmatch(line) is None]
        if not any(found):
            return
    hint = "copy the objects: git repack -a -d, then remove that file"
    raise _bad(f"the repository borrows objects from elsewhere ({where}/{entry.name})", hint)


def _read_small(directory: int, name: str) -> str:
    """Return the beginning of a file that is no link. The agent may have put anything in its place."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _bad(f"{name} is no plain file", _PLAIN)
        return os.read(descriptor, _SMALL).decode(errors="replace")
    finally:
        os.close(descriptor)


def _each(directory: int, where: str, most: int, check_entry: Callable[[str, os.DirEntry[str]], None]) -> None:
    with os.scandir(directory) as entries:
        for count, entry in enumerate(entries, 1):
            if count > most:
                raise _bad(f"{where} has more than {most:,} entries", "pack the repository with git gc")
            check_entry(where, entry)


@contextmanager
def _directory(name: str | Path, above: int | None, called: str) -> Iterator[int]:
    """Open a directory that is no link. Raises FileNotFoundError, or `bad_repository`."""
    mode = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
    if not stat.S_ISDIR(mode):
        raise _bad(f"{called} is {_of_mode(mode)}, no directory", _PLAIN)
    with open_directory(name, above) as opened:
        yield opened


def _kind(entry: os.DirEntry[str]) -> str:
    return _of_mode(entry.stat(follow_symlinks=False).st_mode)


def _of_mode(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFREG: "a file", stat.S_IFDIR: "a directory"}
    return kinds.get(stat.S_IFMT(mode), "a special file")


def _bad(why: str, hint: str) -> HiveError:
    return HiveError("bad_repository", why, hint=hint)
