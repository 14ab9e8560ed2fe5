"""What differs between two systems in the store, in words: packages, what they weigh, and the units of systemd."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from hive_core.runtimes.nixos.commands import plain

UNITS = Path("etc/systemd/system")
MOST = 200
"""Most lines of either kind."""
_LARGEST = 256 * 1024
"""Bytes of a unit that are looked at."""
_MOST_UNITS = 5_000
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
    what they run; one line with all names if `old` is None. Reads nothing outside of the store. Blocks.
    """
    after = _units(new, store)
    if old is None:
        names = ", ".join(_shown(name) for name in sorted(after))
        return [f"{len(after)} units: {names}"[:_WIDTH]] if after else []
    before = _units(old, store)
    changed, moved = [], []
    for name in sorted({*before, *after}):
        shown = _shown(name)
        if name not in before:
            changed.append(f"unit {shown} added")
        elif name not in after:
            changed.append(f"unit {shown} removed")
        elif before[name] != after[name]:
            if _hashless(before[name], store) == _hashless(after[name], store):
                moved.append(f"unit {shown}: only the store paths in it")
            else:
                changed.append(f"unit {shown} changed")
    return _few([*changed, *moved], "units")


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


def _units(system: Path, store: Path) -> Mapping[str, bytes]:
    """The content of every unit, and of each file in the directories beside them (`a.service.d`)."""
    found: dict[str, bytes] = {}
    for name, path in _entries(system / UNITS, store):
        if len(found) >= _MOST_UNITS:
            break
        if not name.endswith(_KINDS):
            continue
        if name.endswith(".d"):
            found.update({f"{name}/{part}": _content(file, store) for part, file in _entries(path, store)})
        else:
            found[name] = _content(path, store)
    return found


def _entries(directory: Path, store: Path) -> Iterator[tuple[str, Path]]:
    real = Path(os.path.realpath(directory))
    if real.is_relative_to(store) and real.is_dir():
        with os.scandir(real) as entries:
            for number, entry in enumerate(entries):
                if number >= _MOST_UNITS:
                    return
                yield entry.name, Path(entry.path)


def _content(path: Path, store: Path) -> bytes:
    """What a unit says; of a link out of the store (to /dev/null: the unit is masked) where it points."""
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(store):
        return os.fsencode(real)
    try:
        file = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(file, "rb") as stream:
            if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return stream.read(_LARGEST)
    except OSError:
        pass
    return os.fsencode(real)


def _hashless(content: bytes, store: Path) -> bytes:
    return re.sub(re.escape(os.fsencode(store)) + rb"/[0-9a-z]{32}-", b"", content)
