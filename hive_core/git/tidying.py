"""Keeping a repository small and quick: loose refs and objects are packed when there are many."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hive_core.git.writers import writing
from hive_core.infra.git.command import failure, run
from hive_core.infra.git.refs import count_loose

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
    with writing(repository) as lock:
        result = run(repository, *arguments, seconds=_SECONDS, keep=[lock])
    if result.status:
        raise failure(arguments, result.status, result.errors)
