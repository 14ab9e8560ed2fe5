"""The differences of two systems in the store, in words: packages, sizes, and the units of systemd."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from hive_core.infra.storage.files import read_bytes
from hive_core.text import format_bytes, one_line

UNITS = Path("etc/systemd/system")
MOST = 200
"""The highest number of lines for packages, and of lines for units."""
_LARGEST = 256 * 1024
"""Bytes of the largest unit whose content is compared; larger ones are compared by their paths."""
_MOST_ENTRIES = 5_000
"""The highest number of entries in a system's directory of units and all directories in it."""
_MOST_BYTES = 32 * 1024 * 1024
"""Bytes of all units of a system whose content is compared; further ones are compared by their paths."""
_CUT = f"more than {_MOST_ENTRIES:,} units: not all of them were compared"
_WIDTH = 300
_HASH_CHARACTERS = 33
"""The hash at the start of the name of a store path, with the dash after it."""
_VERSION = re.compile(r"-(?![A-Za-z])")
"""The start of the version in a name for Nix (builtins.parseDrvName): the first dash that no letter follows."""
_OUTPUTS = frozenset(
    ("bin", "data", "debug", "dev", "devdoc", "doc", "info", "lib", "man", "out", "static", "terminfo")
)
"""Names of outputs; those of one package are reported together."""
_NOTED_BYTES = 8 * 1024
"""A package with unchanged versions is reported if its size changed by this much, as in `nix store diff-closures`."""
_KINDS = (".service", ".socket", ".timer", ".mount", ".automount", ".path", ".target", ".slice", ".swap", ".d")


def packages(old: Mapping[str, int], new: Mapping[str, int]) -> list[str]:
    """Return a line for each package that was added or removed, or whose versions or size changed. Pure.

    `old` and `new` are the paths of a system with their bytes.
    """
    before, after = _by_name(old), _by_name(new)
    lines = [_package(name, before.get(name, {}), after.get(name, {})) for name in sorted({*before, *after})]
    return _limit_lines([line for line in lines if line], "packages")


def size(old: int | None, new: int) -> str:
    """Return the size of a system with its dependencies, and its change, in words. Pure."""
    whole = f"all of it: {format_bytes(new)}"
    if old is None:
        return whole
    if old == new:
        return f"{whole}, as before"
    return f"{whole}, {format_bytes(abs(new - old))} {'more' if new > old else 'less'} than before"


def units(old: Path | None, new: Path, store: Path) -> list[str]:
    """Return a line for each unit that was added, removed or changed; one line with all names if `old` is None.

    Units that differ in more than the hashes of store paths come first. If there are too many units to compare, the
    first line says so. Reads nothing outside of the store. Blocks.
    """
    found = [_Units(system, store) for system in (old, new) if system is not None]
    cut = [] if all(system.complete for system in found) else [_CUT]
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
    return _limit_lines([*cut, *changed, *moved], "units")


def _by_name(paths: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return the bytes of each version of each package; the version is empty where the name has none."""
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


def _limit_lines(lines: list[str], what: str) -> list[str]:
    if len(lines) > MOST:
        lines[MOST - 1 :] = [f"and {len(lines) - MOST + 1} more {what}"]
    return lines


def _shown(name: str) -> str:
    """Return the name of a file, which may hold any characters, as one line."""
    return one_line(name, _WIDTH)


class _UnitDigests(NamedTuple):
    """The content of a unit as digests: of all of it, and without the hashes of store paths."""

    exact: bytes
    hashless: bytes


class _Units:
    """The digests of all units of a system, and of the files in the directories beside them (`a.service.d`).

    The author of a proposal chose them all, so their number and bytes are bounded. `complete` is False if
    some were left out.
    """

    def __init__(self, system: Path, store: Path) -> None:
        self.said: dict[str, _UnitDigests] = {}
        self.complete = True
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
            self.complete = False
            found.pop()
        self._entries_left -= len(found)
        return sorted(found)

    def _look(self, path: Path) -> _UnitDigests:
        """Return the digests of a unit, of its path if that leads out of the store (masked) or to no file."""
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
            # Equal paths have equal content; different ones are reported as changed, because nothing is known of them.
            return _UnitDigests(_digest(where), _digest(where))
        return self._digests(content)

    def _digests(self, content: bytes) -> _UnitDigests:
        hashes = re.escape(os.fsencode(self._store)) + rb"/[0-9a-z]{32}-"
        return _UnitDigests(_digest(content), _digest(re.sub(hashes, b"", content)))


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
