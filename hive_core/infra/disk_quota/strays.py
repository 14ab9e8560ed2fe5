"""Space of deleted subvolumes of btrfs that files in other subvolumes still use.

With simple quotas an extent counts for the subvolume that wrote it, also after that is deleted, as long as a snapshot
or a copy with shared extents uses it. An agent can make a subvolume outside of its group, fill it, share what is in it,
and delete it before the next search for such subvolumes: the space would count for nobody, or for another agent. So the
owner of the space is found by what uses it. See btrfs-qgroup(8), "simple quotas", and linux/btrfs_tree.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from hive_core.infra.disk_quota import btrfs
from hive_core.infra.disk_quota.btrfs import Group

_LOGICAL_INO = 0xC0389424
_FS_INFO = 0x8400941F
_GENERATION = 2
_EXTENT_TREE = 2
_ROOT_ITEM_KEY, _ROOT_BACKREF_KEY, _EXTENT_ITEM_KEY, _QGROUP_INFO_KEY = 132, 144, 168, 242
_DATA = 1
_OWNER_REF = 172
_ITEM = struct.Struct("=3QBQ")
"""The beginning of an extent's item: references, generation, flags; then the type and the id of its first reference."""
_MOST_TRIED = 100
_MOST_LEVELS = 1_000
_MOST_ATTEMPTS = 6
_LONGEST_PAUSE = 64
_ANSWER = 64 * 1024


class Strays:
    """Puts the space of deleted subvolumes into the groups of the agents whose files use it. Methods block."""

    def __init__(self) -> None:
        self._known: dict[UUID, _Known] = {}

    def claim(self, tops: Mapping[int, Group]) -> list[Group]:
        """Look for new strays on one btrfs; returns the groups that got some, one for each.

        `tops` has the group of each subvolume that is a directory of an agent. Raises OSError.
        """
        if not tops:
            return []
        descriptor, fsid = next((group.descriptor, group.fsid) for group in tops.values())
        known = self._known.get(fsid)
        if known is None or not tops.keys() <= known.tops:
            known = self._known[fsid] = _Known(set(tops))  # What belonged to nobody may belong to a new agent.
        generation = _generation(descriptor)
        found = _strays(descriptor, fsid)
        known.settled &= found
        claimed: list[Group] = []
        if found - known.settled and known.pause:
            known.pause -= 1
        elif found - known.settled:
            for stray, top in _owners(descriptor, found - known.settled, known.since, tops).items():
                known.settled.add(stray)
                with suppress(OSError):  # It is gone, with its space.
                    if top is not None and stray not in tops[top].members():
                        tops[top].add(stray)
                        claimed.append(tops[top])
            if left := found - known.settled:
                # What nobody uses is about to be freed, or belongs to a file that a process has open still.
                known.attempts += 1
                known.pause = min(2**known.attempts, _LONGEST_PAUSE)
                if known.attempts >= _MOST_ATTEMPTS:
                    known.settled |= {stray for stray in left if not _exists(descriptor, stray)}
        if found == known.settled:
            known.since, known.attempts, known.pause = generation, 0, 0
        return claimed


@dataclass
class _Known:
    """The strays of one btrfs whose users are known, and the generation from which on extents are looked at."""

    tops: set[int]
    settled: set[int] = field(default_factory=set)
    since: int = 0
    attempts: int = 0
    pause: int = 0
    """Searches to leave out, as each reads all extents since then."""


def _generation(descriptor: int) -> int:
    answer = bytearray(1024)
    struct.pack_into("=Q", answer, 48, _GENERATION)
    fcntl.ioctl(descriptor, _FS_INFO, answer)
    return int(struct.unpack_from("=Q", answer, 56)[0])


def _strays(descriptor: int, fsid: UUID) -> set[int]:
    """Return the ids of deleted subvolumes that have space."""
    known = (number for number, _ in btrfs.search(descriptor, btrfs.QUOTA_TREE, 0, _QGROUP_INFO_KEY))
    deleted = [number for number in known if btrfs.FIRST_INODE <= number < 1 << 48 and not _parents(descriptor, number)]
    return {number for number in deleted if btrfs.counted(fsid, number, "referenced")}


def _exists(descriptor: int, subvolume: int) -> bool:
    return any(True for _ in btrfs.search(descriptor, btrfs.ROOT_TREE, subvolume, _ROOT_ITEM_KEY))


def _parents(descriptor: int, subvolume: int) -> list[int]:
    return [parent for parent, _ in btrfs.search(descriptor, btrfs.ROOT_TREE, subvolume, _ROOT_BACKREF_KEY)]


def _top(descriptor: int, subvolume: int, tops: Mapping[int, Group]) -> int | None:
    """Return the one of `tops` that a subvolume is or lies below."""
    for _ in range(_MOST_LEVELS):
        if subvolume in tops:
            return subvolume
        above = _parents(descriptor, subvolume)
        if not above:
            return None
        subvolume = above[0]
    return None


def _owners(descriptor: int, strays: set[int], since: int, tops: Mapping[int, Group]) -> dict[int, int | None]:
    """Return the one of `tops` whose files use the space of each stray; None if only other files do."""
    owners: dict[int, int | None] = {}
    tried = dict.fromkeys(strays, 0)
    for _, start, item in btrfs.search_all(descriptor, _EXTENT_TREE, _EXTENT_ITEM_KEY, since):
        if len(item) < _ITEM.size:
            continue
        _, _, flags, kind, stray = _ITEM.unpack_from(item)
        if not flags & _DATA or kind != _OWNER_REF or stray not in tried:
            continue
        users = _roots(descriptor, start) - strays
        top = next((top for user in users if (top := _top(descriptor, user, tops)) is not None), None)
        if users:
            owners[stray] = top
        tried[stray] += 1
        if top is not None or tried[stray] == _MOST_TRIED:
            del tried[stray]
            if not tried:
                break
    return owners


def _roots(descriptor: int, start: int) -> set[int]:
    """Return the subvolumes in which files use the extent that starts at a logical address."""
    answer = ctypes.create_string_buffer(_ANSWER)
    order = bytearray(struct.pack("=7Q", start, _ANSWER, 0, 0, 0, 0, ctypes.addressof(answer)))
    try:
        fcntl.ioctl(descriptor, _LOGICAL_INO, order)
    except OSError:  # The extent was freed meanwhile.
        return set()
    count = struct.unpack_from("=4I", answer)[2]
    values = struct.unpack_from(f"={count}Q", answer, 16)
    return set(values[2::3])
