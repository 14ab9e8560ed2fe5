"""Leftovers of killed programs in an agent's directories: half-written files, and locks of git.

The caller must know that the programs which write the files do not run.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

_MOST_BYTES = 32 * 1024 * 1024
_AGAIN_SECONDS = 0.1
"""A person who logs in elsewhere may be writing the file: it is read a second time."""
_LONGEST_PATH = 4_096
_LOCKS = ("index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "refs/heads/*.lock")


def set_damaged_aside(files: Iterable[Path]) -> list[Path]:
    """Rename files that are no valid JSON, also empty ones, to NAME.damaged; returns those that were renamed.

    Their program then starts as on its first day. What cannot be read or renamed is logged and stays.
    """
    renamed = []
    for path in files:
        try:
            if _is_whole(path):
                continue
            time.sleep(_AGAIN_SECONDS)
            if _is_whole(path):
                continue
            aside = path.with_name(f"{path.name}.damaged")
            path.rename(aside)
        except OSError as error:
            log.warning("%s cannot be read or moved aside: %s", path, error.strerror)
            continue
        log.warning("%s is no valid JSON: moved aside to %s", path, aside.name)
        renamed.append(path)
    return renamed


def _is_whole(path: Path) -> bool:
    """Return True if a file is valid JSON, or does not exist, or is not a regular file of a usual size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return True
        raise
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
            return True
        try:
            json.loads(file.read(_MOST_BYTES))
        except (ValueError, RecursionError):
            return False
    return True


def remove_git_locks(repository: Path) -> list[Path]:
    """Remove the locks that a killed git has left in a repository, unless a git works there; returns the removed ones.

    git itself never removes them, and refuses every change from then on.
    """
    directory = repository / ".git"
    if directory.is_symlink():
        return []
    found = [path for pattern in _LOCKS for path in directory.glob(pattern) if path.is_file()]
    if not found or _git_works_in(repository):
        return []
    removed = []
    for path in found:
        try:
            path.unlink()
        except OSError as error:
            log.warning("the lock %s cannot be removed: %s", path, error.strerror)
            continue
        log.warning("the lock %s was left by a git that was killed: removed", path)
        removed.append(path)
    return removed


def _git_works_in(repository: Path) -> bool:
    """Return True if a process with the name git, or of one of its commands, may be at work in a repository.

    That is one whose directory lies in the repository or in a linked worktree of it, whose command line names the
    repository, or of which neither can be seen. Others are of other repositories of this machine.
    """
    places = [str(place.resolve()) for place in (repository, *_worktrees(repository))]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if not (entry / "comm").read_text().startswith("git"):
                continue
            at = str((entry / "cwd").readlink())
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):  # It has ended.
            continue
        except OSError:
            return True
        if any(at == place or at.startswith(f"{place}/") or place in words for place in places):
            return True
    return False


def _worktrees(repository: Path) -> list[Path]:
    """Return the directories of the linked worktrees (gitrepository-layout(5))."""
    found = []
    for path in (repository / ".git" / "worktrees").glob("*/gitdir"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                found.append(Path(os.fsdecode(file.read(_LONGEST_PATH).strip(b"\n\0"))).parent)
    return found
