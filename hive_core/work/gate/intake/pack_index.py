"""The ids in the index of a pack, as git writes it (gitformat-pack(5), version 2)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from hive_core.errors import HiveError

_HEADER = b"\xfftOc\x00\x00\x00\x02"
_FANOUT = 1_024
_ID = 20


def read_ids(indexes: Sequence[Path], most: int) -> list[str]:
    """Return the ids of all objects. Raises HiveError `too_many_files` beyond `most`, `intake_failed`."""
    found: list[str] = []
    for path in indexes:
        with path.open("rb") as file:
            head = file.read(len(_HEADER) + _FANOUT)
            if len(head) < len(_HEADER) + _FANOUT or not head.startswith(_HEADER):
                raise HiveError("intake_failed", "the index of a pack cannot be read", status=500)
            (count,) = struct.unpack(">I", head[-4:])
            if len(found) + count > most:
                hint = "submit fewer files, or fewer commits: git rebase -i, or git merge --squash"
                why = f"the work adds {len(found) + count:,} objects to the branch, at most {most:,} are taken"
                raise HiveError("too_many_files", why, hint=hint)
            ids = file.read(count * _ID)
        found += [ids[at : at + _ID].hex() for at in range(0, len(ids), _ID)]
    return found
