"""Repair of a repository after a crash, and packing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from hive_core.infra.git.command import SECONDS, checked, failure, run, run_in_background
from hive_core.infra.git.objects import TEMPORARY
from hive_core.infra.git.refs import _files, _remove, _remove_locks, count_loose
from hive_core.infra.storage.file_lock import exclusive_repository_lock, shared_repository_lock
from hive_core.infra.storage.files import sync

_OBJECT_PREFIXES = (TEMPORARY, "tmp_objdir-", "incoming-")
_PACK_PREFIXES = ("tmp_", ".tmp-")


def repair(repository: Path, seconds: float = 30.0) -> list[str]:
    """Make a repository usable again after a kill, and return the removed paths, relative to the repository.

    Call it at the start of the daemon, before anything else uses the repository, because it removes all unfinished
    objects. Waits at most `seconds` for git processes of an earlier daemon. Raises HiveError `repository_busy`.
    """
    with exclusive_repository_lock(repository, seconds):
        return _remove_locks(repository) + _remove_empty_refs(repository) + _remove_unfinished(repository)


def _remove_empty_refs(repository: Path) -> list[str]:
    # Older versions of git do not sync refs, so a power cut can leave refs without content, which git reports as an
    # error forever. Their new values are lost: the transition has not happened.
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
"""Number of loose refs from which they are packed: git reads all of them in each transition."""

LOOSE_OBJECTS = 2_000
PACKS = 50
"""Number of packs beyond which they are combined, as git's gc.autoPackLimit: each imported proposal adds one."""
_SECONDS = 1_800.0


def detect_due_packing(repository: Path) -> tuple[bool, bool]:
    """Return whether refs and whether objects need packing. Loose objects are counted in one directory, as git does."""
    objects = 0
    with suppress(FileNotFoundError):
        objects = sum(1 for _ in (repository / "objects/17").iterdir())
    packs = sum(1 for _ in (repository / "objects/pack").glob("*.pack"))
    many_objects = objects > -(-LOOSE_OBJECTS // 256) or packs > PACKS
    return count_loose(repository, LOOSE_TAGS) >= LOOSE_TAGS, many_objects


def packed_bytes(repository: Path) -> int:
    """Return the size of all packs; each imported proposal adds one. Other objects, tags above all, are small."""
    total = 0
    with suppress(FileNotFoundError), os.scandir(repository / "objects/pack") as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # Packing has replaced it meanwhile.
                total += entry.stat(follow_symlinks=False).st_size
    return total


def tidy(repository: Path) -> bool:
    """Pack refs and objects if there are many; return True if any were packed.

    Readers and writers may work at the same time, and a kill at any moment does no harm. Unreachable objects are kept
    for two weeks. Packing objects, which is needed once in thousands of changes, can take minutes. Raises HiveError
    `git_failed`, `git_slow`, `disk_full`.
    """
    refs, objects = detect_due_packing(repository)
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
        raise failure(arguments, result.status, result.errors, writes=repository)


def reachable_commits(
    repository: Path, commits: Sequence[str], among: Iterable[str], but: Sequence[str] = ()
) -> set[str]:
    """Return those of `among` that are in `commits` or are their ancestors; what does not exist is left out.

    The commits `but` and their ancestors do not count.
    """
    wanted = {commit.encode() for commit in among}
    if not commits:
        return set()
    listed = _listed(repository, "rev-list", "--ignore-missing", "--stdin", feed=_lines(commits, but), seconds=SECONDS)
    return {line.decode() for line in listed if line in wanted}


def bytes_of(repository: Path, commits: Sequence[str], but: Sequence[str]) -> int:
    """Return the size on the disk of what `commits` reach and the commits `but` do not."""
    if not commits:
        return 0
    feed = _lines(commits, but)
    found = checked(repository, "rev-list", "--objects", "--disk-usage", "--ignore-missing", "--stdin", feed=feed)
    return int(found)


def collect_garbage(repository: Path, keep: Sequence[str], elsewhere: Sequence[str] = ()) -> None:
    """Remove what neither a ref nor a commit of `keep` reaches, young as it may be.

    Nothing may add objects meanwhile; readers may work. Packs of which nothing is reachable are just removed, which
    needs no space. Others are written anew without what is not reachable; as long as `keep` has commits without a ref,
    they stay. A kill at any moment leaves all that is reachable. What the commits `elsewhere` reach is in a repository
    from which this one borrows objects; then only whole packs are removed, as git would read all of the other one for
    more. Raises HiveError `git_failed`, `git_slow`, `disk_full`, `repository_busy`.
    """
    with exclusive_repository_lock(repository) as lock:
        arguments = ("rev-list", "--objects", "--all", "--ignore-missing", "--stdin")
        reachable = {
            _id(line[:40]) for line in _listed(repository, *arguments, feed=_lines(keep, elsewhere), lock=lock)
        }
        mixed = False
        for pack in sorted((repository / "objects/pack").glob("*.pack")):
            objects = _objects_of(repository, pack, lock)
            if not objects & reachable:
                _remove_pack(pack)
            mixed = mixed or not objects <= reachable
        if keep or elsewhere:
            return
        if mixed:
            _run_locked(repository, lock, "-c", "pack.threads=1", "repack", "-a", "-d", "-q")
        _run_locked(repository, lock, "prune", "--expire=now")


def _objects_of(repository: Path, pack: Path, lock: int) -> set[bytes]:
    """Return the ids of the objects in a pack; none without its index, which a kill can leave it without."""
    index = pack.with_suffix(".idx")
    if not index.exists():
        return set()
    listed = _listed(repository, "show-index", feed=index.read_bytes(), lock=lock)
    return {_id(line.split()[1]) for line in listed}


def _listed(
    repository: Path, *arguments: str, feed: bytes, seconds: float = _SECONDS, lock: int | None = None
) -> Iterator[bytes]:
    """Run a command and yield the lines of its output, of which there may be one for each object or commit.

    `lock` is a descriptor that git inherits. Raises HiveError `git_failed` or `git_slow`.
    """
    keep = [] if lock is None else [lock]
    with run_in_background(repository, *arguments, feed=feed, seconds=seconds, keep=keep) as command:
        rest = b""
        for chunk in command.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        command.check()


def _id(written: bytes) -> bytes:
    """Return the id of an object as bytes, of which a set takes half of the memory."""
    return bytes.fromhex(written.decode())


def _remove_pack(pack: Path) -> None:
    # The index first: git ignores a pack without one.
    pack.with_suffix(".idx").unlink(missing_ok=True)
    for file in pack.parent.glob(f"{pack.stem}.*"):
        file.unlink(missing_ok=True)
    sync(pack.parent)


def _run_locked(repository: Path, lock: int, *arguments: str) -> None:
    result = run(repository, *arguments, seconds=_SECONDS, keep=[lock])
    if result.status:
        raise failure(arguments, result.status, result.errors, writes=repository)


def _lines(commits: Sequence[str], but: Sequence[str] = ()) -> bytes:
    return "".join(f"{word}\n" for word in (*commits, *(f"^{commit}" for commit in but))).encode()
