"""Commits: an object's bytes, and how commits and trees relate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.git.idents import Person, message_bytes, person_line
from hive_core.infra.git.command import failure, run
from hive_core.infra.git.names import check_sha


def to_bytes(tree: str, parents: Sequence[str], author: Person, when: int, message: str) -> bytes:
    """A commit object's content; the author is the committer too."""
    who = person_line(author, when)
    lines = [b"tree " + check_sha(tree).encode()]
    lines += [b"parent " + check_sha(parent).encode() for parent in parents]
    lines += [b"author " + who, b"committer " + who, b"", message_bytes(message)]
    return b"\n".join(lines)


def tree_of(repository: Path, commit: str) -> str:
    """The sha of a commit's tree. Raises HiveError `no_such_commit`."""
    asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{check_sha(commit)}^{{tree}}")
    result = run(repository, *asked)
    if result.status == 1:
        raise HiveError("no_such_commit", f"there is no commit {commit}", hint="give an existing one", status=404)
    if result.status:
        raise failure(asked, result.status, result.errors)
    # Some versions print the option too.
    return check_sha(result.out.split()[-1].decode())


def descends(repository: Path, commit: str, ancestor: str) -> bool:
    """Whether `ancestor` is `commit` itself or one before it. Raises HiveError `git_failed` if one is missing."""
    asked = ("merge-base", "--is-ancestor", check_sha(ancestor), check_sha(commit))
    result = run(repository, *asked)
    if result.status not in (0, 1):
        raise failure(asked, result.status, result.errors)
    return result.status == 0
