"""What differs between two directories of files, in words."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

_LARGEST = 256 * 1024
"""Bytes of the largest file whose lines are counted."""
_MOST = 200
"""Most lines of words."""


def compare(old: Path | None, new: Path) -> list[str]:
    """A line for each file that was added, removed or changed; `old` of None is an empty directory."""
    before, after = files(old) if old else {}, files(new)
    words = []
    for name in sorted({*before, *after}):
        if name not in before:
            words.append(f"{name} added ({_size(after[name])})")
        elif name not in after:
            words.append(f"{name} removed ({_size(before[name])})")
        else:
            words += _changed(name, before[name], after[name])
    if len(words) > _MOST:
        words[_MOST - 1 :] = [f"and {len(words) - _MOST + 1} more files"]
    return words


def files(directory: Path) -> dict[str, Path]:
    """The plain files below `directory`, by their paths in it."""
    return {
        str(Path(parent, name).relative_to(directory)): Path(parent, name)
        for parent, _, names in os.walk(directory)
        for name in names
    }


def _changed(name: str, old: Path, new: Path) -> list[str]:
    sizes = old.stat().st_size, new.stat().st_size
    modes = old.stat().st_mode & 0o100, new.stat().st_mode & 0o100
    words = []
    if modes[0] != modes[1]:
        words.append(f"{name} is {'now' if modes[1] else 'no longer'} executable")
    if max(sizes) > _LARGEST:
        if sizes[0] != sizes[1] or not _same(old, new):
            words.append(f"{name} changed (from {sizes[0]:,} to {sizes[1]:,} bytes)")
        return words
    before, after = old.read_bytes(), new.read_bytes()
    if before != after:
        words.append(f"{name} changed ({_lines(before, after)})")
    return words


def _lines(before: bytes, after: bytes) -> str:
    if b"\0" in before or b"\0" in after:
        return f"from {len(before):,} to {len(after):,} bytes"
    # Lines counted without their order: linear, whatever an agent has written.
    lines = Counter(before.splitlines()), Counter(after.splitlines())
    added, removed = (lines[1] - lines[0]).total(), (lines[0] - lines[1]).total()
    if not added and not removed:
        return "only the ends of lines" if before.splitlines() == after.splitlines() else "the order of lines"
    return f"{added} line{'' if added == 1 else 's'} added, {removed} removed"


def _same(old: Path, new: Path) -> bool:
    with old.open("rb") as left, new.open("rb") as right:
        while chunk := left.read(_LARGEST):
            if chunk != right.read(_LARGEST):
                return False
        return not right.read(1)


def _size(path: Path) -> str:
    size = path.stat().st_size
    if size > _LARGEST:
        return f"{size:,} bytes"
    lines = len(path.read_bytes().splitlines())
    return f"{lines} line{'' if lines == 1 else 's'}"
