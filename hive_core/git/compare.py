"""What differs between two commits: paths, and a text for whoever decides."""

from __future__ import annotations

import codecs
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.git.environment import EMPTY_TREE
from hive_core.infra.git.command import running
from hive_core.infra.git.names import check_sha

_PATHS_MOST = 200_000
_PATH_MOST = 8_192
COUNTED = 64 * 1024 * 1024
"""A diff is counted to this many bytes beyond the limit and no further."""

_PLAIN = ("--no-ext-diff", "--no-textconv", "--no-renames", "--no-color", "--ignore-submodules=none")


def changed_paths(repository: Path, old: str | None, new: str) -> list[str]:
    """The paths of all files that were added, removed or changed; `old` of None: of all files of `new`.

    Bytes that are no UTF-8 are surrogates, as in `os`. A rename is a removal and an addition. Raises HiveError
    `too_many_files` beyond 200,000, which no commit that passed intake can reach.
    """
    found: list[str] = []
    with running(repository, "diff-tree", "-r", "-z", "--name-only", *_PLAIN, _base(old), check_sha(new)) as command:
        rest = b""
        for chunk in command.chunks():
            *paths, rest = (rest + chunk).split(b"\0")
            found += [path.decode(errors="surrogateescape") for path in paths]
            if len(found) > _PATHS_MOST or len(rest) > _PATH_MOST:
                raise HiveError("too_many_files", "too many paths differ", hint="propose fewer files", status=400)
        command.check()
    return found


def diff(repository: Path, old: str | None, new: str, limit: int) -> tuple[str, int]:
    """The diff as text, cut after `limit` bytes, and how many bytes the whole has; `old` of None: from nothing.

    The whole is counted without being kept, to 64 MiB beyond the limit: a greater number stands for "at least". What
    is no UTF-8 is replaced. Files that git takes for binary (a NUL near their start) are named, not shown.
    """
    kept = bytearray()
    full = 0
    with running(repository, "diff-tree", "-r", "-p", "--full-index", *_PLAIN, _base(old), check_sha(new)) as command:
        for chunk in command.chunks():
            kept += chunk[: limit - len(kept)]
            full += len(chunk)
            if full > limit + COUNTED:
                break
        else:
            command.check()
    # A character that the limit cuts in two is left out, not shown as a broken one.
    text = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(bytes(kept), final=full <= limit)
    return text, full


def _base(old: str | None) -> str:
    return EMPTY_TREE if old is None else check_sha(old)
