"""Refs: reading, transactions, and removal of stale locks."""

from __future__ import annotations

import errno
import mmap
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError, conflict
from hive_core.infra.git.command import GitResult, failure, run
from hive_core.infra.git.names import TAGS, check_ref, check_sha
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.file_lock import exclusive_repository_lock, shared_repository_lock
from hive_core.infra.storage.files import sync

_PACKED = re.compile(rb"^([0-9a-f]{40}) (refs/tags/[^\n]+)$", re.MULTILINE)
_SHA = re.compile(rb"[0-9a-f]{40}")
_DEPTH = 8
# ELOOP: a symbolic link, which git and the daemon never create there.
_NO_REF = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True)
class RefChange:
    """A change of `ref` (a full name) to the object `new`.

    The ref must hold `old`; with `old` None it must not exist.
    """

    ref: str
    new: str
    old: str | None = None


def tags(repository: Path) -> dict[str, str]:
    """Return the names under `refs/tags/` with the ids of their tag objects."""
    # Packing writes the packed file before it removes loose refs, so reading in this order misses none.
    loose = dict(_loose(str(repository / "refs/tags"), "", _DEPTH))
    with _packed(repository) as packed:
        found = {name[10:].decode(errors="replace"): sha.decode() for sha, name in _PACKED.findall(packed)}
    found.update(loose)
    return found


def resolve(repository: Path, ref: str) -> str | None:
    """Return the object id that a ref holds; None if the ref does not exist."""
    held = _read(str(repository / ref))
    if held is not None:
        return held
    with _packed(repository) as packed:
        return _find(packed, ref.encode())


def count_loose(repository: Path, limit: int) -> int:
    """Count the tags that are not packed, at most about `limit` of them."""
    count = 0
    for _, _, files in os.walk(repository / TAGS):
        count += len(files)
        if count >= limit:
            break
    return count


def _loose(directory: str, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    try:
        found = list(os.scandir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            if depth:
                yield from _loose(entry.path, f"{prefix}{entry.name}/", depth - 1)
        elif not entry.name.endswith(".lock"):
            sha = _read(entry.path)
            if sha is not None:
                yield prefix + entry.name, sha


def _read(path: str) -> str | None:
    # Plain system calls: with thousands of loose refs, Python's file objects would cost more than the disk.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NO_REF:
            return None
        raise
    try:
        text = os.read(descriptor, 64)
    except IsADirectoryError:
        return None
    finally:
        os.close(descriptor)
    sha = text.rstrip(b"\n")
    return sha.decode() if _SHA.fullmatch(sha) else None


@contextmanager
def _packed(repository: Path) -> Iterator[bytes | mmap.mmap]:
    """Map the packed refs into memory. git never changes the file, but replaces it with a new one."""
    try:
        file = (repository / "packed-refs").open("rb")
    except FileNotFoundError:
        yield b""
        return
    with file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as packed:
            yield packed


def _find(packed: bytes | mmap.mmap, ref: bytes) -> str | None:
    """Find a packed ref. A record is `<id> <ref>`, and `^<id>` of a tag's target may follow on a line of its own."""
    first = packed.find(b"\n") + 1
    if not (packed[:1] == b"#" and b" sorted " in packed[:first]):
        at = packed.find(b" %b\n" % ref)
        return packed[at - 40 : at].decode() if at >= 40 else None
    low, high = first, len(packed)
    while low < high:
        start = packed.rfind(b"\n", low, (low + high) // 2) + 1 or low
        if packed[start : start + 1] == b"^":
            start = packed.rfind(b"\n", low, start - 1) + 1 or low
        end = packed.find(b"\n", start)
        if end < 0:
            break
        name = packed[start + 41 : end]
        if name == ref:
            return packed[start : start + 40].decode()
        if name > ref:
            high = start
            continue
        low = end + 1
        if packed[low : low + 1] == b"^":
            low = packed.find(b"\n", low) + 1 or high
    return None


_ARGUMENTS = ("update-ref", "--no-deref", "--stdin")


def transaction_script(changes: Sequence[RefChange]) -> bytes:
    """Return the input for `git update-ref --stdin`. Raises HiveError `bad_ref` or `bad_commit`."""
    lines = ["start"]
    for change in changes:
        ref, new = check_ref(change.ref), check_sha(change.new)
        if change.old is None:
            lines.append(f"create {ref} {new}")
        else:
            lines.append(f"update {ref} {new} {check_sha(change.old)}")
    return ("\n".join([*lines, "prepare", "commit"]) + "\n").encode()


def update_refs(repository: Path, changes: Sequence[RefChange]) -> None:
    """Make the changes durably in one transaction.

    While git writes the refs, a reader can see the first changes (in the order given) without the later ones, never a
    later one alone. A kill of git or a power cut can leave the refs like that. A killed daemon does not stop git.

    A lock that a killed git left is removed. Raises HiveError `ref_moved` (409) if a ref does not hold its old value,
    and nothing is changed then; also `git_failed`, `disk_full`, `repository_busy`.
    """
    if not changes:
        return
    feed = transaction_script(changes)
    result = _run(repository, feed)
    if result.status and ".lock'" in result.errors and "File exists" in result.errors:
        remove_stale_locks(repository)
        result = _run(repository, feed)
    if result.status:
        _check_old_values(repository, changes)
        raise failure(_ARGUMENTS, result.status, result.errors, writes=repository)
    with disk_full_as_error("update refs"):
        _sync(repository, changes)


def _run(repository: Path, feed: bytes) -> GitResult:
    with shared_repository_lock(repository) as lock:
        return run(repository, *_ARGUMENTS, feed=feed, keep=[lock])


def revert_refs(repository: Path, changes: Sequence[RefChange], seconds: float = 5.0) -> None:
    """Undo changes of one transaction as far as they were made, the last one first, also where nothing can be written.

    What was created is removed; of what was packed since, git removes it, for which there must be space. What held
    another value before gets it back if there is space for that, and else stays. A kill leaves some of the first
    changes. Raises HiveError `repository_busy`, and OSError.
    """
    moved: list[RefChange] = []
    packed: list[RefChange] = []
    with exclusive_repository_lock(repository, seconds):
        for change in reversed(changes):
            path = repository / check_ref(change.ref)
            if change.old is not None:
                if _read(str(path)) == change.new:
                    moved.append(RefChange(change.ref, change.old, change.new))
            elif _read(str(path)) == change.new:
                path.unlink()
                sync(path.parent)
            if change.old is None and resolve(repository, change.ref) == change.new:
                packed.append(change)
    with suppress(HiveError):
        update_refs(repository, moved)
    if packed:
        _run(repository, "".join(f"delete {change.ref} {check_sha(change.new)}\n" for change in packed).encode())


def _check_old_values(repository: Path, changes: Sequence[RefChange]) -> None:
    for change in changes:
        now = resolve(repository, change.ref)
        if now != change.old:
            why = f"{change.ref} {_describe_value(now)}; expected was that it {_describe_value(change.old)}"
            hint = "another change came first: look at the current state, and try again if the change still applies"
            raise conflict("ref_moved", why, hint)


def _describe_value(sha: str | None) -> str:
    return "does not exist" if sha is None else f"holds {sha}"


def _sync(repository: Path, changes: Sequence[RefChange]) -> None:
    """Sync the refs and their directories: git (since 2.36) syncs only the files."""
    directories: dict[Path, None] = {}
    for change in changes:
        path = repository / change.ref
        # The ref may have been packed meanwhile.
        with suppress(FileNotFoundError):
            sync(path)
        for above in path.parents:
            if above == repository:
                break
            directories[above] = None
    for directory in directories:
        with suppress(FileNotFoundError):
            sync(directory)


_LOCKS = ("HEAD.lock", "packed-refs.lock", "packed-refs.new", "config.lock", "gc.pid", "gc.pid.lock", "shallow.lock")


def remove_stale_locks(repository: Path, seconds: float = 5.0) -> list[str]:
    """Remove locks of killed git processes and return their paths. Raises HiveError `repository_busy`.

    Unlike `maintenance.repair`, it may be called at any time.
    """
    with exclusive_repository_lock(repository, seconds):
        return _remove_locks(repository)


def _remove_locks(repository: Path) -> list[str]:
    found = [repository / name for name in _LOCKS]
    found += [path for path in _files(repository / "refs") if path.name.endswith(".lock")]
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
