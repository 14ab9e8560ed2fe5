"""Looks at directories, sockets and links. Follows no link in a place that an agent can write."""

from __future__ import annotations

import grp
import os
from collections.abc import Iterable
from pathlib import Path

from hive_core.doctor.doors import Door, DoorFacts
from hive_core.doctor.room import GIB, MIB, Room
from hive_core.layout import Layout
from hive_core.runtimes.nixos import replacing
from hive_core.runtimes.nixos.containers import config_files

STORE = Path("/nix/store")


def doors(layout: Layout, group: str) -> DoorFacts:
    """Who may get in."""
    private = {str(path): found for path in (layout.state_dir, layout.run_dir / "agents") if (found := _door(path))}
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        number = None
    return DoorFacts(str(layout.host_socket), _door(layout.host_socket), group, number, private)


def rooms(layout: Layout, *, store: bool) -> list[Room]:
    """What is free in the state directory, and with `store` in the Nix store."""
    purge = "remove what is not needed; hive-c0re destroy --purge removes all of an agent"
    found = [_room("disk-state", layout.state_dir, 256 * MIB, 2 * GIB, purge)]
    if store:
        collect = "nix-collect-garbage --delete-older-than 14d; closures that agents need are kept"
        found.append(_room("disk-store", STORE, GIB, 10 * GIB, collect))
    return [room for room in found if room is not None]


def started_on(file: Path) -> str | None:
    """The closure on which a container is started, as its conf file has it; "" if that names none, None if this user
    cannot see it. The container's profile, which its root may change, says nothing of that.
    """
    try:
        return config_files.value_in(replacing.read(file) or "", "SYSTEM_PATH") or ""
    except PermissionError:
        return None
    except OSError:
        return ""


def there(closure: str) -> bool | None:
    """Whether a closure is on the disk; None if this user cannot see that."""
    try:
        Path(closure).stat()
    except PermissionError:
        return None
    except OSError:
        return False
    return True


def unseen(paths: Iterable[Path]) -> list[Path]:
    """Directories into which this user cannot look."""
    return [path for path in paths if path.is_dir() and not os.access(path, os.R_OK | os.X_OK)]


def existing(place: Path) -> Path:
    """The place, or the nearest directory above it that there is."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _door(path: Path) -> Door | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return Door(found.st_mode, found.st_uid, found.st_gid)


def _room(check: str, place: Path, least: int, enough: int, remedy: str) -> Room | None:
    try:
        found = os.statvfs(existing(place))
    except OSError:
        return None
    # Some file systems (btrfs) have no bound of files, and say that there are none.
    files = found.f_favail if found.f_files else None
    return Room(check, str(place), found.f_bavail * found.f_frsize, files, least, enough, remedy)
