"""Annotated tags: what one says, as an object's bytes and back."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hive_core.errors import HiveError
from hive_core.git.idents import Person, message_bytes, person_line
from hive_core.infra.git.names import TAGS, check_ref, check_sha

__all__ = ["Person", "Tag", "from_bytes", "to_bytes"]

MOST_BYTES = 4 * 1024 * 1024
"""The largest tag object that is written or read."""

_HEAD = re.compile(
    rb"object (?P<object>[0-9a-f]{40})\ntype (?P<type>[a-z]+)\ntag (?P<tag>[^\n]+)\n"
    rb"(?:tagger (?P<name>[^<\n]*)<(?P<email>[^>\n]*)> (?P<when>[0-9]+) [+-][0-9]{4}\n)?\n"
)


@dataclass(frozen=True)
class Tag:
    """An annotated tag on a commit.

    `name` is without `refs/tags/` (`built/3`), `target` a commit's sha, `when` unix seconds, `sha` the tag object's
    own, empty before it is written. A tag that is read back has the name and message as they were stored: cleaned.
    """

    name: str
    target: str
    tagger: Person
    when: int
    message: str
    sha: str = ""


def to_bytes(tag: Tag) -> bytes:
    """The tag object's content. Raises HiveError `bad_ref`, `bad_commit` or `tag_too_large`."""
    check_ref(TAGS + tag.name)
    head = b"object %b\ntype commit\ntag %b\ntagger %b\n\n" % (
        check_sha(tag.target).encode(),
        tag.name.encode(),
        person_line(tag.tagger, tag.when),
    )
    content = head + message_bytes(tag.message)
    if len(content) > MOST_BYTES:
        why = f"tag {tag.name} would be {len(content)} bytes long, {MOST_BYTES} are allowed"
        raise HiveError("tag_too_large", why, hint="shorten its text", status=413)
    return content


def from_bytes(name: str, sha: str, content: bytes) -> Tag | None:
    """The tag that a ref of this name holds; None if it tags something other than a commit, which the hive never does.

    Raises HiveError `repository_damaged` if the object is not readable as a tag or is one of another name.
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
    hint = "see it with git fsck; git tag -d takes away a tag that does not belong there"
    return HiveError("repository_damaged", why, hint=hint, status=500)
