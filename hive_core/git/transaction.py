"""Changing refs: all of several or none, each only if it still holds what the caller saw."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hive_core.errors import conflict
from hive_core.git.writers import writing
from hive_core.infra.files import refusing, sync
from hive_core.infra.git.command import Result, failure, run
from hive_core.infra.git.maintenance import remove_stale_locks
from hive_core.infra.git.names import check_ref, check_sha
from hive_core.infra.git.refs import RefChange, resolve

_ARGUMENTS = ("update-ref", "--no-deref", "--stdin")


def script(changes: Sequence[RefChange]) -> bytes:
    """What `git update-ref --stdin` is told. Raises HiveError `bad_ref` or `bad_commit`."""
    lines = ["start"]
    for change in changes:
        ref, new = check_ref(change.ref), check_sha(change.new)
        if change.old is None:
            lines.append(f"create {ref} {new}")
        else:
            lines.append(f"update {ref} {new} {check_sha(change.old)}")
    return ("\n".join([*lines, "prepare", "commit"]) + "\n").encode()


def update(repository: Path, changes: Sequence[RefChange]) -> None:
    """Make the changes in one transaction; they are on the disk when this returns.

    A reader, a kill of git itself or a power cut while git puts the refs in place can see the first of the changes
    without the later ones (in the order given), never a later one alone. A killed daemon does not stop git.

    Raises HiveError `ref_moved` (409) if one ref does not hold its old value: nothing is changed then. A lock that a
    killed git left is removed on the way. Else `git_failed`, `disk_full`, `repository_busy`.
    """
    if not changes:
        return
    feed = script(changes)
    result = _run(repository, feed)
    if result.status and ".lock'" in result.errors and "File exists" in result.errors:
        remove_stale_locks(repository)
        result = _run(repository, feed)
    if result.status:
        _check_old_values(repository, changes)
        raise failure(_ARGUMENTS, result.status, result.errors)
    with refusing("update refs"):
        _sync(repository, changes)


def _run(repository: Path, feed: bytes) -> Result:
    with writing(repository) as lock:
        return run(repository, *_ARGUMENTS, feed=feed, keep=[lock])


def _check_old_values(repository: Path, changes: Sequence[RefChange]) -> None:
    for change in changes:
        now = resolve(repository, change.ref)
        if now != change.old:
            why = f"{change.ref} {_words(now)}, not as expected: it {_words(change.old)} before"
            hint = "somebody was faster: look at the state as it is now, and ask again if it still fits"
            raise conflict("ref_moved", why, hint)


def _words(sha: str | None) -> str:
    return "does not exist" if sha is None else f"holds {sha}"


def _sync(repository: Path, changes: Sequence[RefChange]) -> None:
    """git syncs a ref's file (from version 2.36 on), but not the directory that gives it its name."""
    directories: dict[Path, None] = {}
    for change in changes:
        path = repository / change.ref
        # It may be packed by now.
        with suppress(FileNotFoundError):
            sync(path)
        for above in path.parents:
            if above == repository:
                break
            directories[above] = None
    for directory in directories:
        with suppress(FileNotFoundError):
            sync(directory)
