"""What differs between two systems in the store, in words: packages, what they weigh, and the units of systemd."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from hive_core.infra.files import read_bytes
from hive_core.text import format_bytes, one_line

UNITS = Path("etc/systemd/system")
MOST = 200
"""Most lines of either kind."""
_LARGEST = 256 * 1024
"""Bytes of a unit that is looked at; a larger one is known by its path."""
_MOST_ENTRIES = 5_000
"""Of a system's directory of units and of all directories in it."""
_MOST_BYTES = 32 * 1024 * 1024
"""Of all units of a system; those beyond are known by their paths."""
_CUT = f"more than {_MOST_ENTRIES:,} units: not all of them were compared"
_WIDTH = 300
_HASH_CHARACTERS = 33
"""Of the name of a store path: its hash, and the dash behind that."""
_VERSION = re.compile(r"-(?![A-Za-z])")
"""Where the version in a name begins, for Nix (builtins.parseDrvName): at the first dash that no letter follows."""
_OUTPUTS = frozenset(
    ("bin", "data", "debug", "dev", "devdoc", "doc", "info", "lib", "man", "out", "static", "terminfo")
)
"""Names of outputs: those of one package are told of together."""
_NOTED_BYTES = 8 * 1024
"""A package whose versions stay is told of if it has grown or shrunk by so much, as `nix store diff-closures` does."""
_KINDS = (".service", ".socket", ".timer", ".mount", ".automount", ".path", ".target", ".slice", ".swap", ".d")


def packages(old: Mapping[str, int], new: Mapping[str, int]) -> list[str]:
    """A line for each package that was added, removed, has other versions, or another size. Both are the paths that a
    system consists of, with their bytes. Pure.
    """
    before, after = _by_name(old), _by_name(new)
    lines = [_package(name, before.get(name, {}), after.get(name, {})) for name in sorted({*before, *after})]
    return _few([line for line in lines if line], "packages")


def size(old: int | None, new: int) -> str:
    """What a system weighs with all that it needs, in bytes, and how much that has changed. Pure."""
    whole = f"all of it: {format_bytes(new)}"
    if old is None:
        return whole
    if old == new:
        return f"{whole}, as before"
    return f"{whole}, {format_bytes(abs(new - old))} {'more' if new > old else 'less'} than before"


def units(old: Path | None, new: Path, store: Path) -> list[str]:
    """A line for each unit that was added, removed or changed, those first that read differently but for the paths of
    what they run; one line with all names if `old` is None. The first line says if there are too many to look at all.
    Reads nothing outside of the store. Blocks.
    """
    found = [_Units(system, store) for system in (old, new) if system is not None]
    cut = [] if all(system.whole for system in found) else [_CUT]
    after = found[-1].said
    if old is None:
        names = ", ".join(_shown(name) for name in sorted(after))
        return [*cut, f"{len(after)} units: {names}"[:_WIDTH]] if after else cut
    before = found[0].said
    changed, moved = [], []
    for name in sorted({*before, *after}):
        shown = _shown(name)
        if name not in before:
            changed.append(f"unit {shown} added")
        elif name not in after:
            changed.append(f"unit {shown} removed")
        elif before[name].exact != after[name].exact:
            if before[name].hashless == after[name].hashless:
                moved.append(f"unit {shown}: only the store paths in it")
            else:
                changed.append(f"unit {shown} changed")
    return _few([*cut, *changed, *moved], "units")


def _by_name(paths: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The bytes of each version of each package; a version is empty where the name has none."""
    found: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path, size in paths.items():
        name = path.rpartition("/")[2][_HASH_CHARACTERS:]
        stem, dash, last = name.rpartition("-")
        if dash and last in _OUTPUTS:
            name = stem
        start = _VERSION.search(name)
        name, version = (name[: start.start()], name[start.end() :]) if start else (name, "")
        found[name][version] += size
    return {name: dict(versions) for name, versions in found.items()}


def _package(name: str, old: Mapping[str, int], new: Mapping[str, int]) -> str:
    removed, added = (sorted(one.keys() - other.keys()) for one, other in ((old, new), (new, old)))
    delta = sum(new.values()) - sum(old.values())
    if removed and added:
        words = f"{name}{_versions(removed)} → {_versions(added).strip() or 'no version'}"
    elif added:
        words = f"{name}{_versions(added)} added"
    elif removed:
        words = f"{name}{_versions(removed)} removed"
    elif abs(delta) >= _NOTED_BYTES:
        words = f"{name} changed"
    else:
        return ""
    by = f" ({'+' if delta > 0 else '-'}{format_bytes(abs(delta))})" if abs(delta) >= _NOTED_BYTES else ""
    return (words + by)[:_WIDTH]


def _versions(versions: list[str]) -> str:
    known = ", ".join(version for version in versions if version)
    return f" {known}" if known else ""


def _few(lines: list[str], what: str) -> list[str]:
    if len(lines) > MOST:
        lines[MOST - 1 :] = [f"and {len(lines) - MOST + 1} more {what}"]
    return lines


def _shown(name: str) -> str:
    """A file's name, which may be anything, in one line."""
    return one_line(name, _WIDTH)


class _Said(NamedTuple):
    """What a unit says, as digests: of all of it, and of it without the hashes of store paths."""

    exact: bytes
    hashless: bytes


class _Units:
    """What every unit of a system says, and each file in the directories beside them (`a.service.d`).

    A proposal's author chose them all: they are bounded in number and in bytes, and kept as digests. `whole` tells
    whether each was looked at.
    """

    def __init__(self, system: Path, store: Path) -> None:
        self.said: dict[str, _Said] = {}
        self.whole = True
        self._store = store
        self._entries_left = _MOST_ENTRIES
        self._bytes_left = _MOST_BYTES
        for name, path in self._entries(system / UNITS):
            if name.endswith(".d"):
                self.said.update((f"{name}/{part}", self._look(file)) for part, file in self._entries(path))
            elif name.endswith(_KINDS):
                self.said[name] = self._look(path)

    def _entries(self, directory: Path) -> list[tuple[str, Path]]:
        real = Path(os.path.realpath(directory))
        if not real.is_relative_to(self._store) or not real.is_dir():
            return []
        with os.scandir(real) as entries:
            found = [(entry.name, Path(entry.path)) for entry in islice(entries, self._entries_left + 1)]
        if len(found) > self._entries_left:
            self.whole = False
            found.pop()
        self._entries_left -= len(found)
        return sorted(found)

    def _look(self, path: Path) -> _Said:
        """Of a link out of the store (to /dev/null: the unit is masked), and of what is no file, where it is."""
        real = Path(os.path.realpath(path))
        where = os.fsencode(real)
        if not real.is_relative_to(self._store):
            return self._digests(where)
        most = min(_LARGEST, self._bytes_left)
        try:
            content = read_bytes(real, most + 1)
        except OSError:
            return self._digests(where)
        self._bytes_left -= min(len(content), most)
        if len(content) > most:
            # Two of one path are the same; of others nothing is known, so they are told of as changed.
            return _Said(_digest(where), _digest(where))
        return self._digests(content)

    def _digests(self, content: bytes) -> _Said:
        hashes = re.escape(os.fsencode(self._store)) + rb"/[0-9a-z]{32}-"
        return _Said(_digest(content), _digest(re.sub(hashes, b"", content)))


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
