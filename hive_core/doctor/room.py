"""Judges the free space where the hive writes."""

from __future__ import annotations

from dataclasses import dataclass

from hive_core.doctor.findings import Finding, error, ok, warning

MIB = 1024**2
GIB = 1024**3
_FILES_LEAST = 1_000


@dataclass(frozen=True)
class Room:
    """What is free in a directory: bytes, and files that can still be made (None where there is no such bound).

    Below `least` bytes work fails soon; below `enough` it is time to clean up.
    """

    check: str
    place: str
    free: int
    files: int | None
    least: int
    enough: int
    remedy: str


def judge_room(room: Room) -> Finding:
    """Whether there is enough."""
    left = f"{room.place} has {_shown(room.free)} left"
    if room.files is not None and room.files < _FILES_LEAST:
        return error(room.check, f"{room.place} has room for {room.files:,} files more", room.remedy)
    if room.free < room.least:
        return error(room.check, left, room.remedy)
    if room.free < room.enough:
        return warning(room.check, left, room.remedy)
    return ok(room.check, left)


def _shown(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size // MIB} MiB"
