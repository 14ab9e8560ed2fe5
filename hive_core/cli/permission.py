"""Who may use a socket, in words, for a user who may not."""

from __future__ import annotations

import grp
import pwd
import stat
from pathlib import Path

_DEFAULT_GROUP = "hyperhive"


def who_may(path: Path) -> str:
    """What to do about a refused `path`: the group to be in, or the user to be."""
    try:
        found = path.stat()
    except OSError:
        return f'it is for root and the group "{_DEFAULT_GROUP}": ask to be added to it, then log in again'
    owner = _name(pwd.getpwuid, found.st_uid)
    if not found.st_mode & stat.S_IWGRP:
        return f'only the user "{owner}" may use it'
    group = _name(grp.getgrgid, found.st_gid)
    return f'it is for the user "{owner}" and the group "{group}": ask to be added to it, then log in again'


def _name(lookup: object, number: int) -> str:
    assert callable(lookup)
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)
