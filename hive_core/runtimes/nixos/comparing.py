"""What differs between two systems in the store, in words: packages, what they weigh, and the units of systemd."""

from __future__ import annotations

import hashlib
import os
import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from hive_core.runtimes.nixos.commands import plain
from hive_core.runtimes.nixos.replacing import read_bytes

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
_CHANGE = re.compile(
    r"(?P<name>[^:]+): (?:(?P<old>[^→]+) → (?P<new>[^→]+?))?(?:, |$)?(?P<size>[+-][0-9.]+ [KMGT]iB)?", re.ASCII
)
_NONE, _NO_VERSION = "∅", "ε"
_KINDS = (".service", ".socket", ".timer", ".mount", ".automount", ".path", ".target", ".slice", ".swap", ".d")
_UNITS_OF_SIZE = ("bytes", "KiB", "MiB", "GiB")


def packages(answer: str) -> list[str]:
    """The answer of `nix store diff-closures`, a line for each package. Pure."""
    return _few([_package(line) for line in plain(answer).splitlines() if line.strip()], "packages")


def size(old: int | None, new: int) -> str:
    """What a system weighs with all that it needs, in bytes, and how much that has changed. Pure."""
    whole = f"all of it: {_bytes(new)}"
    if old is None:
        return whole
    if old == new:
        return f"{whole}, as before"
    return f"{whole}, {_bytes(abs(new - old))} {'more' if new > old else 'less'} than before"


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


def _package(line: str) -> str:
    found = _CHANGE.fullmatch(line.strip())
    if found is None or not (found["old"] or found["size"]):
        return line.strip()[:_WIDTH]
    name, old, new = found["name"], found["old"], found["new"]
    by = f" ({found['size']})" if found["size"] else ""
    if not old:
        words = f"{name} changed"
    elif old == _NONE:
        words = f"{name}{_version(new)} added"
    elif new == _NONE:
        words = f"{name}{_version(old)} removed"
    else:
        words = f"{name}{_version(old)} → {_version(new).strip() or 'no version'}"
    return (words + by)[:_WIDTH]


def _version(text: str) -> str:
    return "" if text == _NO_VERSION else f" {text}"


def _bytes(count: int) -> str:
    value = float(count)
    for unit in _UNITS_OF_SIZE:
        if value < 1024 or unit == _UNITS_OF_SIZE[-1]:
            break
        value /= 1024
    return f"{count:,} bytes" if unit == "bytes" else f"{value:,.1f} {unit}"


def _few(lines: list[str], what: str) -> list[str]:
    if len(lines) > MOST:
        lines[MOST - 1 :] = [f"and {len(lines) - MOST + 1} more {what}"]
    return lines


def _shown(name: str) -> str:
    """A file's name, which may be anything, in one line."""
    return plain(name.replace("\n", " ").encode(errors="replace").decode())[:_WIDTH]


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
