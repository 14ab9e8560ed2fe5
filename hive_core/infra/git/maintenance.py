"""Cleaning up after a kill or a power cut: locks that nobody holds, unfinished objects, refs without content."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hive_core.git.writers import alone
from hive_core.infra.files import sync
from hive_core.infra.git.objects import TEMPORARY

_LOCKS = ("HEAD.lock", "packed-refs.lock", "packed-refs.new", "config.lock", "gc.pid", "gc.pid.lock", "shallow.lock")
_OBJECT_PREFIXES = (TEMPORARY, "tmp_objdir-", "incoming-")
_PACK_PREFIXES = ("tmp_", ".tmp-")


def repair(repository: Path, seconds: float = 30.0) -> list[str]:
    """Make a repository usable again after a kill: what was removed, relative to the repository.

    For the start of the daemon, before anything else uses the repository: it takes unfinished objects for left over.
    Waits at most `seconds` for git processes that a former daemon started. Raises HiveError `repository_busy`.
    """
    with alone(repository, seconds):
        return _remove_locks(repository) + _remove_empty_refs(repository) + _remove_unfinished(repository)


def remove_stale_locks(repository: Path, seconds: float = 5.0) -> list[str]:
    """Only the locks, for any time: what was removed. Raises HiveError `repository_busy`."""
    with alone(repository, seconds):
        return _remove_locks(repository)


def _remove_locks(repository: Path) -> list[str]:
    found = [repository / name for name in _LOCKS]
    found += [path for path in _files(repository / "refs") if path.name.endswith(".lock")]
    return _remove(repository, found)


def _remove_empty_refs(repository: Path) -> list[str]:
    # Older versions of git do not sync refs, and a power cut then leaves some without content; git reports such a
    # ref for ever. What it was to hold is gone: the transition is as if it had not been.
    found = [path for path in _files(repository / "refs") if path.lstat().st_size == 0]
    removed = _remove(repository, found)
    for directory in {path.parent for path in found}:
        sync(directory)
    return removed


def _remove_unfinished(repository: Path) -> list[str]:
    objects = repository / "objects"
    found: list[Path] = []
    for top in [objects, *(path for path in objects.iterdir() if len(path.name) == 2 and path.is_dir())]:
        found += [path for path in top.iterdir() if path.name.startswith(_OBJECT_PREFIXES)]
    if (objects / "pack").is_dir():
        found += [path for path in (objects / "pack").iterdir() if path.name.startswith(_PACK_PREFIXES)]
    return _remove(repository, found)


def _files(top: Path) -> list[Path]:
    return [Path(directory, name) for directory, _, names in os.walk(top) for name in names]


def _remove(repository: Path, paths: list[Path]) -> list[str]:
    removed = []
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            try:
                path.unlink()
            except FileNotFoundError:
                continue
        removed.append(str(path.relative_to(repository)))
    return removed
