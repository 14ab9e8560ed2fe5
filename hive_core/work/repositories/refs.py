"""The refs of a mirror that upstream decides on, which are all in its file `packed-refs`.

The daemon writes that file itself, as a whole: a mirror changes at once, however many refs there are, and a hundred
thousand refs are one file. The other refs of the file stay. Names are those that git allows (git-check-ref-format(1)).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.command import run_in_background
from hive_core.infra.git.refs import remove_stale_locks
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.file_lock import exclusive_repository_lock
from hive_core.infra.storage.files import sync

UPSTREAM = "refs/upstream/heads/"
TAGS = "refs/tags/"
HEADS = "refs/heads/"
_OURS = (UPSTREAM, TAGS)
_HEADER = "# pack-refs with: sorted \n"
_LONGEST = 200
"""Bytes of a name: as a file below a directory it must be possible on every file system."""
_BAD_CHARACTERS = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\"']|\.\.|@\{|//")
_NO_ID = "0" * 40
_ID = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class OfferedRefs:
    """The branches and tags that upstream offers, by the names that they get in the mirror.

    `default` is upstream's default branch, or empty. `left_out` counts those that the mirror cannot hold.
    """

    refs: Mapping[str, str]
    default: str = ""
    left_out: int = 0


def is_usable(name: str) -> bool:
    """Return True if git allows the ref name, and it is harmless as a path and in a line."""
    parts = name.split("/")
    return (
        len(name.encode(errors="replace")) <= _LONGEST
        and name.isprintable()
        and _BAD_CHARACTERS.search(name) is None
        and name != "@"
        and all(
            part and not part.startswith((".", "-")) and not part.endswith((".lock", ".")) and part != "@"
            for part in parts
        )
    )


def read_offered(lines: Iterable[str], most: int) -> OfferedRefs:
    """Read the lines of `git ls-remote --symref`: `<id> TAB <ref>`, and `ref: <ref> TAB HEAD`.

    Raises HiveError `too_many_refs` for more than `most` refs, and `bad_upstream` for a line of another form.
    """
    refs: dict[str, str] = {}
    default, left_out = "", 0
    for line in lines:
        value, tab, name = line.rstrip("\n").partition("\t")
        if not tab:
            raise HiveError("bad_upstream", "upstream's list of refs cannot be read", status=502)
        if value.startswith("ref: "):
            if name == "HEAD" and value[5:].startswith(HEADS) and is_usable(value[5:]):
                default = value[5:].removeprefix(HEADS)
            continue
        if name.endswith("^{}") or not name.startswith((HEADS, TAGS)):
            continue
        if _ID.fullmatch(value) is None:
            raise HiveError(
                "bad_upstream", "upstream names objects by other ids than SHA-1", hint="convert it", status=502
            )
        if not is_usable(name) or value == _NO_ID:  # git shows a ref that it cannot read with this id.
            left_out += 1
            continue
        refs[UPSTREAM + name.removeprefix(HEADS) if name.startswith(HEADS) else name] = value
        if len(refs) > most:
            raise _too_many(most)
    kept = without_conflicts(refs)
    return OfferedRefs(kept, default, left_out + len(refs) - len(kept))


def _too_many(most: int) -> HiveError:
    why = f"upstream has more than {most} branches and tags"
    hint = "raise repositories.refs in the settings, or remove refs upstream"
    return HiveError("too_many_refs", why, hint=hint, status=502)


def without_conflicts(refs: Mapping[str, str]) -> dict[str, str]:
    """Return refs without those below another one: as files, `a` and `a/b` cannot both exist."""
    kept: dict[str, str] = {}
    for name in sorted(refs):
        above = name.split("/")
        if not any("/".join(above[:depth]) in kept for depth in range(3, len(above))):
            kept[name] = refs[name]
    return kept


def upstream_refs(mirror: Path) -> dict[str, str]:
    """Return the refs of upstream in a mirror."""
    return {name: value for name, value, _ in _records(mirror) if name.startswith(_OURS)}


def replace_upstream_refs(mirror: Path, refs: Mapping[str, str]) -> int:
    """Make `refs` the refs of upstream in a mirror, durably and at once; returns the number of changes.

    Raises HiveError `repository_busy`, `disk_full`.
    """
    before = upstream_refs(mirror)
    changed = len({name for name, _ in before.items() ^ dict(refs).items()})
    if not changed:
        return 0
    remove_stale_locks(mirror)
    with exclusive_repository_lock(mirror), disk_full_as_error("write the refs of a mirror"):
        others = [(name, value, peeled) for name, value, peeled in _records(mirror) if not name.startswith(_OURS)]
        lines = sorted([*others, *((name, value, "") for name, value in refs.items())])
        new = mirror / "packed-refs.new"
        with new.open("w", encoding="utf-8", newline="\n") as file:
            file.write(_HEADER)
            for name, value, peeled in lines:
                file.write(f"{value} {name}\n{peeled}")
            file.flush()
            os.fsync(file.fileno())
        new.chmod(0o644)
        new.replace(mirror / "packed-refs")
        sync(mirror)
    return changed


def _records(mirror: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, id and the line of the peeled id (or nothing) of every packed ref."""
    try:
        file = (mirror / "packed-refs").open(encoding="utf-8", newline="\n")
    except FileNotFoundError:
        return
    with file:
        last: tuple[str, str, str] | None = None
        for line in file:
            if line.startswith("#"):
                continue
            if line.startswith("^"):
                last = (last[0], last[1], line) if last else None
                continue
            if last:
                yield last
            last = (line[41:].rstrip("\n"), line[:40], "")
        if last:
            yield last


def kinds_of(mirror: Path, ids: Iterable[str]) -> dict[str, str]:
    """Return the kinds (commit, tag, …) of those of `ids` that a mirror holds."""
    feed = "".join(f"{each}\n" for each in sorted(set(ids))).encode()
    if not feed:
        return {}
    found: dict[str, str] = {}
    with run_in_background(mirror, "cat-file", "--batch-check=%(objectname) %(objecttype)", feed=feed) as command:
        rest = b""
        for chunk in command.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                value, _, kind = line.decode(errors="replace").partition(" ")
                if kind != "missing":
                    found[value] = kind
        command.check()
    return found
