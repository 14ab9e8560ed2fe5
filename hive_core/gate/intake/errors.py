"""Failures of git as error messages.

The output of git contains texts of the agent (names of files and objects), so an error has one escaped line of it.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.quarantine import GitEnd
from hive_core.infra.processes import describe_exit
from hive_core.infra.storage.disk_space import disk_full, reports_lack_of_space
from hive_core.text import format_bytes, printable_line

_FSCK = re.compile(r"object ([0-9a-f]{40}): (\w+): (.*)")
_TREE_FAULTS = frozenset(
    {
        "badFilemode",
        "badTree",
        "duplicateEntries",
        "emptyName",
        "fullPathname",
        "hasDot",
        "hasDotdot",
        "hasDotgit",
        "largePathname",
        "nullSha1",
        "treeNotSorted",
        "zeroPaddedFilemode",
    }
)
"""The names of git fsck for faults of trees."""
_LINE_MOST = 300
_REPAIR = "see what git fsck says in your repository, and make the commit again"


def refusal(reading: GitEnd, indexing: GitEnd, commit: str, most: int, source: Path) -> HiveError | None:
    """Return the error for a transfer of a commit that has failed; None if it has not."""
    if reports_lack_of_space(indexing.output):
        return disk_full("take a proposal in")
    if "pack exceeds maximum allowed size" in indexing.output:
        return too_large(f"what the commit adds is more than {format_bytes(most)} when packed")
    # Ended by SIGPIPE, the reader is not the cause: the other side has ended first.
    if reading.status and not _signalled(reading, signal.SIGPIPE):
        return _unreadable(reading, commit, source)
    if indexing.status:
        return _unacceptable(indexing)
    if reading.status:
        return _failed(f"git pack-objects: {describe_exit(reading.status)}")
    return None


def missing_object(indexing: GitEnd) -> str | None:
    """Return the object whose absence made git refuse the commit; None for other failures."""
    match = re.search(r"did not receive expected object ([0-9a-f]{40})", indexing.output)
    return match[1] if match else None


def missing_object_error(sha: str, length: int | None, most: int) -> HiveError:
    """Return the error for an object that did not arrive; `length` is its size in the agent's repository, if known."""
    if length is not None and length > most:
        where = f"a file in the commit, or in one before it, has {length:,} bytes"
        return too_large(f"{where}, at most {most:,} are allowed ({sha})")
    return HiveError("bad_object", f"the content of object {sha} is not what its id says", hint=_REPAIR)


def no_commit(commit: str, kind: str) -> HiveError:
    """Return the error for the id of an object that is no commit."""
    return HiveError(
        "bad_commit", f"{commit} is a {kind}, not a commit", hint="git rev-parse HEAD prints the id to use"
    )


def _unreadable(reading: GitEnd, commit: str, source: Path) -> HiveError:
    # The objects that a clone borrows are not there, where git reads only what is the agent's own.
    output = "".join(line for line in reading.output.splitlines(keepends=True) if "info/alternates" not in line)
    reading = GitEnd(reading.status, output)
    if "bwrap:" in reading.output:
        return _failed(_line(reading))
    if kind := re.search(r"expected commit type, but the object dereferences to (\w+) type", reading.output):
        return no_commit(commit, kind[1])
    if f"bad revision '{commit}" in reading.output and not re.search(r"error:|corrupt", reading.output):
        hint = "commit first, and propose the id that git rev-parse HEAD prints"
        return HiveError("no_such_commit", f"the repository has no commit {commit}", hint=hint)
    if exhausted := _exhausted(reading):
        return exhausted
    line = _line(reading).replace(f"{source}/", "")
    return HiveError("bad_object", f"git cannot read the commit: {line}", hint=_REPAIR)


def _unacceptable(indexing: GitEnd) -> HiveError:
    if re.search(r"bwrap:|nable to (create|write|chmod|rename)|cannot (store|open|write)|Read-only", indexing.output):
        return _failed(_line(indexing))
    if exhausted := _exhausted(indexing):
        return exhausted
    if match := _FSCK.search(indexing.output):
        code = "bad_tree" if match[2] in _TREE_FAULTS or match[2].startswith("git") else "bad_object"
        return HiveError(
            code,
            f"git fsck refuses the object {match[1]}: {printable_line(match[3], _LINE_MOST)} ({match[2]})",
            hint=_REPAIR,
        )
    return HiveError("bad_object", f"git refuses an object of the commit: {_line(indexing)}", hint=_REPAIR)


def _exhausted(end: GitEnd) -> HiveError | None:
    memory = re.search(r"[Oo]ut of memory|Cannot allocate memory|attempting to allocate", end.output)
    if memory or any(_signalled(end, by) for by in (signal.SIGXCPU, signal.SIGXFSZ, signal.SIGKILL, signal.SIGSEGV)):
        hint = "propose fewer and smaller changes; git gc may help as well"
        return HiveError("too_large", "the commit takes more memory or time than a proposal may", hint=hint)
    return None


def _failed(why: str) -> HiveError:
    return HiveError("intake_failed", f"the proposal cannot be read: {why}", hint="see the daemon's log", status=500)


def _signalled(end: GitEnd, by: signal.Signals) -> bool:
    # bwrap reports the signal that ended its child as shells do.
    return end.status in {-by, 128 + by}


def _line(end: GitEnd) -> str:
    lines = [line for line in end.output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("fatal:", "error:", "bwrap:"))] or lines
    return printable_line(errors[-1].strip(), _LINE_MOST) if errors else describe_exit(end.status)


def too_large(what: str) -> HiveError:
    """Return the error for files or packs that are larger than a proposal may be."""
    hint = "keep large files out of the configuration, and out of the commits before (git rebase)"
    return HiveError("too_large", what, hint=hint)
