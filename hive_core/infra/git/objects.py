"""Encoding of blobs, trees, commits and tags, and durable writes of them."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Literal

from hive_core.errors import HiveError
from hive_core.infra.git.command import checked, failure, run
from hive_core.infra.git.names import TAGS, check_ref, check_sha
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.files import sync

__all__ = ["Person", "Tag", "parse_tag", "tag_bytes"]


TEMPORARY = "tmp_obj_"
"""Prefix of the file names of unfinished objects, which git's own clean-up removes too."""


def write_object(objects: Path, kind: Literal["blob", "tree", "commit", "tag"], content: bytes) -> str:
    """Store an object durably below a repository's `objects` directory, and return its id.

    gitdb only encodes the object. Its own `store` neither syncs nor updates the time of an existing object, which a
    clean-up may then delete as old. Raises HiveError `disk_full`.
    """
    with disk_full_as_error("store an object"), _temporary(objects) as (descriptor, path):
        sha = _encode(descriptor, kind, content)
        directory = objects / sha[:2]
        target = directory / sha[2:]
        if _refresh(target):
            sync(target)
        else:
            os.fsync(descriptor)
            with suppress(FileExistsError):
                directory.mkdir()
                sync(objects)
            path.rename(target)
        sync(directory)
    return sha


def _encode(descriptor: int, kind: str, content: bytes) -> str:
    from gitdb.base import IStream  # type: ignore[import-untyped] # noqa: PLC0415
    from gitdb.db import LooseObjectDB  # type: ignore[import-untyped] # noqa: PLC0415
    from gitdb.stream import FDCompressedSha1Writer  # type: ignore[import-untyped] # noqa: PLC0415

    database = LooseObjectDB("")
    # It closes the descriptor that it is given.
    writer = FDCompressedSha1Writer(os.dup(descriptor))
    try:
        database.set_ostream(writer)
        database.store(IStream(kind, len(content), io.BytesIO(content)))
    finally:
        writer.close()
    return str(writer.sha(as_hex=True))


def _refresh(target: Path) -> bool:
    """Update the time of an existing object; return False if there is none, or an empty file left by a power cut."""
    try:
        if target.stat().st_size == 0:
            return False
        os.utime(target)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _temporary(directory: Path) -> Iterator[tuple[int, Path]]:
    path = directory / f"{TEMPORARY}{token_hex(8)}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def commit_bytes(tree: str, parents: Sequence[str], author: Person, when: int, message: str) -> bytes:
    """Encode a commit; its author is also its committer."""
    who = person_line(author, when)
    lines = [b"tree " + check_sha(tree).encode()]
    lines += [b"parent " + check_sha(parent).encode() for parent in parents]
    lines += [b"author " + who, b"committer " + who, b"", message_bytes(message)]
    return b"\n".join(lines)


def tree_of(repository: Path, commit: str) -> str:
    """Return the id of a commit's tree. Raises HiveError `no_such_commit`."""
    arguments = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{check_sha(commit)}^{{tree}}")
    result = run(repository, *arguments)
    if result.status == 1:
        raise HiveError("no_such_commit", f"there is no commit {commit}", hint="give an existing one", status=404)
    if result.status:
        raise failure(arguments, result.status, result.errors)
    # Some versions print the option too.
    return check_sha(result.out.split()[-1].decode())


def author_of(repository: Path, commit: str) -> str:
    """Return the name of a commit's author. Raises HiveError `git_failed`."""
    return checked(repository, "log", "-1", "--no-show-signature", "--format=%an", check_sha(commit)).decode().strip()


def descends(repository: Path, commit: str, ancestor: str) -> bool:
    """Return True if `ancestor` is `commit` or one of its ancestors. Raises HiveError `git_failed`."""
    arguments = ("merge-base", "--is-ancestor", check_sha(ancestor), check_sha(commit))
    result = run(repository, *arguments)
    if result.status not in (0, 1):
        raise failure(arguments, result.status, result.errors)
    return result.status == 0


_MAX_NAME_LENGTH = 200
_CRUD = " .,:;<>\"\\'"
"""Characters that git strips from both ends of a name."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Person:
    """An author or tagger, which git writes as `name <email>`."""

    name: str
    email: str


def person_line(person: Person, when: int) -> bytes:
    """Encode a person and a time (Unix seconds) as git's objects store them, in UTC."""
    name = _plain(person.name) or "unknown"
    email = _plain(person.email).replace(" ", "")
    return f"{name} <{email}> {max(when, 0)} +0000".encode()


def message_bytes(message: str) -> bytes:
    """Encode a message: one newline at its end, and control characters other than tab and newline replaced."""
    text = _CONTROLS.sub("\ufffd", message.replace("\r\n", "\n"))
    return text.rstrip("\n").encode(errors="replace") + b"\n"


def _plain(text: str) -> str:
    kept = "".join(char for char in text[:_MAX_NAME_LENGTH] if char.isprintable() and char not in "<>")
    return kept.strip(_CRUD)


MOST_TAG_BYTES = 4 * 1024 * 1024
"""Largest tag object that is written or read."""

_HEAD = re.compile(
    rb"object (?P<object>[0-9a-f]{40})\ntype (?P<type>[a-z]+)\ntag (?P<tag>[^\n]+)\n"
    rb"(?:tagger (?P<name>[^<\n]*)<(?P<email>[^>\n]*)> (?P<when>[0-9]+) [+-][0-9]{4}\n)?\n"
)


@dataclass(frozen=True)
class Tag:
    """An annotated tag on a commit.

    `name` is without `refs/tags/` (`built/3`), `target` is the id of a commit, `when` is in Unix seconds, `sha` is the
    id of the tag object, empty before it is written. A tag that was read has name and message as stored: sanitized.
    """

    name: str
    target: str
    tagger: Person
    when: int
    message: str
    sha: str = ""


def tag_bytes(tag: Tag) -> bytes:
    """Encode a tag object. Raises HiveError `bad_ref`, `bad_commit` or `tag_too_large`."""
    check_ref(TAGS + tag.name)
    head = b"object %b\ntype commit\ntag %b\ntagger %b\n\n" % (
        check_sha(tag.target).encode(),
        tag.name.encode(),
        person_line(tag.tagger, tag.when),
    )
    content = head + message_bytes(tag.message)
    if len(content) > MOST_TAG_BYTES:
        why = f"tag {tag.name} would be {len(content)} bytes long, {MOST_TAG_BYTES} are allowed"
        raise HiveError("tag_too_large", why, hint="shorten its text", status=413)
    return content


def parse_tag(name: str, sha: str, content: bytes) -> Tag | None:
    """Decode a tag object; None if its target is no commit, which the daemon never creates.

    Raises HiveError `repository_damaged` if the object is not a valid tag or has another name.
    """
    head = _HEAD.match(content)
    if head is None:
        raise _damaged(f"the object {sha} of tag {name} is not readable as a tag")
    if head["tag"] != name.encode():
        raise _damaged(f"tag {name} holds the tag object of {head['tag'][:80].decode(errors='replace')!r}")
    if head["type"] != b"commit":
        return None
    person = Person(
        (head["name"] or b"").decode(errors="replace").strip(), (head["email"] or b"").decode(errors="replace")
    )
    message = content[head.end() :].decode(errors="replace").removesuffix("\n")
    return Tag(name, head["object"].decode(), person, int(head["when"] or 0), message, sha)


def _damaged(why: str) -> HiveError:
    hint = "run git fsck there; git tag -d removes a tag that does not belong there"
    return HiveError("repository_damaged", why, hint=hint, status=500)


def merge_base(repository: Path, one: str, other: str) -> str | None:
    """Return the best common ancestor of two commits, None if they have none. Raises HiveError `git_failed`."""
    arguments = ("merge-base", check_sha(one), check_sha(other))
    result = run(repository, *arguments)
    if result.status not in (0, 1):
        raise failure(arguments, result.status, result.errors)
    return check_sha(result.out.split()[0].decode()) if result.status == 0 else None
