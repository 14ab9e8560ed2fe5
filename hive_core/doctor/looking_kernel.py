"""Looks at the kernel, through /proc and /sys. `root` is where these are found, for tests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from hive_core.doctor.kernel import KernelFacts
from hive_core.doctor.looking_places import existing
from hive_core.errors import HiveError
from hive_core.runtimes.nixos.idmapping import check


def kernel(root: Path = Path("/")) -> KernelFacts:
    """What the kernel offers."""
    version, controllers = _cgroups(root)
    return KernelFacts(version, controllers, _namespaces(root))


async def shown_to_containers(places: Iterable[Path]) -> dict[str, HiveError | None]:
    """Why directories, or those in which they are to be, cannot be shown under other user ids: tried out, as root."""
    if os.geteuid() != 0:
        return {}
    found: dict[str, HiveError | None] = {}
    for place in places:
        try:
            await check([existing(place)])
        except HiveError as error:
            found[str(place)] = error
        else:
            found[str(place)] = None
    return found


def _cgroups(root: Path) -> tuple[Literal[1, 2], frozenset[str]]:
    unified = root / "sys/fs/cgroup/cgroup.controllers"
    if unified.exists():
        return 2, frozenset(_text(unified).split())
    # name, hierarchy, number of groups, enabled (cgroups(7)); hierarchy 0 is mounted nowhere.
    rows = [line.split() for line in _text(root / "proc/cgroups").splitlines() if not line.startswith("#")]
    return 1, frozenset(row[0] for row in rows if len(row) == 4 and row[1] != "0" and row[3] == "1")


def _namespaces(root: Path) -> int | None:
    text = _text(root / "proc/sys/user/max_user_namespaces").strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
