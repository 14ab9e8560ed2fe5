"""Repair of a repository after a crash, and packing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hive_core.infra.file_lock import exclusive_repository_lock, shared_repository_lock
from hive_core.infra.files import sync
from hive_core.infra.git.command import failure, run
from hive_core.infra.git.objects import TEMPORARY
from hive_core.infra.git.refs import _files, _remove, _remove_locks, count_loose

_OBJECT_PREFIXES = (TEMPORARY, "tmp_objdir-", "incoming-")
_PACK_PREFIXES = ("tmp_", ".tmp-")


def repair(repository: Path, seconds: float = 30.0) -> list[str]:
    """Make a repository usable again after a kill: what was removed, relative to the repository.

    For the start of the daemon, before anything else uses the repository: it takes unfinished objects for left over.
    Waits at most `seconds` for git processes that a former daemon started. Raises HiveError `repository_busy`.
    """
    with exclusive_repository_lock(repository, seconds):
        return _remove_locks(repository) + _remove_empty_refs(repository) + _remove_unfinished(repository)


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


LOOSE_TAGS = 200
"""git reads every loose ref beside a new one, so that many of them make each transition slower."""

LOOSE_OBJECTS = 2_000
PACKS = 50
"""Every proposal that was taken in brings one, and git opens all of them. As git's own gc.autoPackLimit."""
_SECONDS = 1_800.0


def due(repository: Path) -> tuple[bool, bool]:
    """Whether there are many loose refs, and many packs or loose objects (guessed from one directory, like git)."""
    objects = 0
    with suppress(FileNotFoundError):
        objects = sum(1 for _ in (repository / "objects/17").iterdir())
    packs = sum(1 for _ in (repository / "objects/pack").glob("*.pack"))
    many = objects > -(-LOOSE_OBJECTS // 256) or packs > PACKS
    return count_loose(repository, LOOSE_TAGS) >= LOOSE_TAGS, many


def tidy(repository: Path) -> bool:
    """Pack what is due; whether anything was. Safe beside readers and writers, and to kill at any moment.

    Objects that no ref reaches are kept for two weeks after they were written. Takes up to minutes when objects are
    due, once in thousands of changes. Raises HiveError `git_failed`, `git_slow`, `disk_full`.
    """
    refs, objects = due(repository)
    if objects:
        limit = f"gc.auto={LOOSE_OBJECTS}"
        _run(repository, "-c", limit, "-c", "gc.pruneExpire=2.weeks.ago", "gc", "--auto", "--quiet")
    if refs:
        _run(repository, "pack-refs", "--all", "--prune")
    return refs or objects


def _run(repository: Path, *arguments: str) -> None:
    with shared_repository_lock(repository) as lock:
        result = run(repository, *arguments, seconds=_SECONDS, keep=[lock])
    if result.status:
        raise failure(arguments, result.status, result.errors)
