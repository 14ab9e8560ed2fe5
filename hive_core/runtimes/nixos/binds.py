"""What of the host a container is shown and how it is set up: the conf lines that the hive owns. Pure.

The unit expands EXTRA_NSPAWN_FLAGS without quotes, so the shell splits and globs it, and nspawn splits a bind at its
colons. A path that would not come through all of that as it is, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.protocol.names import shown
from hive_core.runtimes.base import AgentSpec
from hive_core.runtimes.bubblewrap import APPLIED, INSIDE

_CARRIED = re.compile(r"(/[A-Za-z0-9._+@%,=-]+)+")
_ADDRESSES = ("HOST_ADDRESS", "LOCAL_ADDRESS", "HOST_ADDRESS6", "LOCAL_ADDRESS6", "HOST_BRIDGE")
"""Where all of these are empty, the unit makes no network interface."""


def check_carried(paths: Iterable[Path]) -> None:
    """Raise HiveError `path_not_carried` for a path that the unit's flags cannot carry."""
    for path in paths:
        if _CARRIED.fullmatch(str(path)) is None:
            raise HiveError(
                "path_not_carried",
                f"containers cannot be given the directory {shown(str(path))}: the unit's flags are split at spaces "
                "and colons, and the shell expands them",
                hint="choose a state and a run directory with only letters, digits and . _ + @ % , = - in their paths",
            )


def bound(spec: AgentSpec) -> list[Path]:
    """The directories of the host that the agent's container is shown."""
    paths = spec.paths
    applied = [] if spec.applied is None else [spec.applied]
    return [paths.run, paths.own, paths.state, paths.claude, paths.config, *applied]


def mark(run: Path) -> str:
    """The flag that tells that a container is this hive's, and whose: no other one has that directory."""
    return f"--bind-ro={run}:{INSIDE.run}"


def lines(spec: AgentSpec, *, user_namespaces: bool, by_flag: bool) -> dict[str, str]:
    """The conf lines of a container. `by_flag`: the unit does not know PRIVATE_USERS, so nspawn is told by a flag.

    SYSTEM_PATH names the closure, because the profile is bound into the container, where its root may change it.
    """
    flags = list(_flags(spec, ":rootidmap" if user_namespaces else ""))
    if user_namespaces and by_flag:
        flags.insert(0, "--private-users=pick")
    return {
        "SYSTEM_PATH": spec.closure,
        "PRIVATE_NETWORK": "1" if spec.sealed else "0",
        **dict.fromkeys(_ADDRESSES, ""),
        "PRIVATE_USERS": "pick" if user_namespaces else "no",
        "EXTRA_NSPAWN_FLAGS": " ".join(flags),
    }


def _flags(spec: AgentSpec, option: str) -> Iterable[str]:
    # With `rootidmap` the container's root is the directory's owner, and nobody else of the container can own a
    # file there; see systemd-nspawn(1).
    paths = spec.paths
    yield mark(paths.run) + option
    for outside, inside in (
        (paths.own, INSIDE.own),
        (paths.state, INSIDE.state),
        (paths.claude, INSIDE.claude),
        (paths.config, INSIDE.config),
    ):
        yield f"--bind={outside}:{inside}{option}"
    if spec.applied is not None:
        inside_applied = APPLIED if spec.kind == "manager" else f"{APPLIED}/{spec.applied.name}"
        yield f"--bind-ro={spec.applied}:{inside_applied}{option}"
