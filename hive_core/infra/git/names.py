"""Valid object ids and ref names: full ones, without any syntax that git would interpret."""

from __future__ import annotations

import re

from hive_core.errors import bad_request

_SHA = re.compile(r"[0-9a-f]{40}")
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_MAX_LENGTH = 200

TAGS = "refs/tags/"
MAIN = "refs/heads/main"


def check_sha(sha: str) -> str:
    """Return `sha` if it is a full object id in lower-case hexadecimal digits; else raise HiveError `bad_commit`."""
    if not _SHA.fullmatch(sha):
        error = bad_request(f"{sha[:80]!r} is not the full name of an object", "give all 40 hexadecimal digits")
        error.code = "bad_commit"
        raise error
    return sha


def is_ref(ref: str) -> bool:
    """Return True if `ref` is a full ref name (`refs/...`) of plain characters."""
    return (
        len(ref) <= _MAX_LENGTH
        and ref.startswith("refs/")
        and _NAME.fullmatch(ref) is not None
        and ".." not in ref
        and not any(part.endswith(".lock") for part in ref.split("/"))
    )


def check_ref(ref: str) -> str:
    """Return `ref` if `is_ref` accepts it; else raise HiveError `bad_ref`."""
    if not is_ref(ref):
        error = bad_request(f"{ref[:80]!r} is not the full name of a ref", "such as refs/tags/built/3")
        error.code = "bad_ref"
        raise error
    return ref
