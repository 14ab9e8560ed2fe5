"""Judges the kernel: control groups that limit, user namespaces that keep a container's root from being the host's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hive_core.doctor.findings import Finding, error, ok, warning
from hive_core.errors import HiveError

_NEEDED = {"memory": "memory_max", "cpu": "cpu_quota", "pids": "tasks_max"}
"""The controllers, and the limits that they enforce."""
_OFF = "set nixos.user_namespaces = false (a container's root is then the host's)"


@dataclass(frozen=True)
class KernelFacts:
    """`controllers` as the kernel names them in that version of control groups. `namespaces` is the most user
    namespaces that there may be, None if the kernel has none.
    """

    cgroups: Literal[1, 2]
    controllers: frozenset[str]
    namespaces: int | None


def judge_cgroups(facts: KernelFacts) -> list[Finding]:
    """Whether limits of containers can be enforced."""
    found = []
    missing = [name for name in _NEEDED if name not in facts.controllers]
    if missing:
        names = ", ".join(_NEEDED[name] for name in missing)
        why = f"the kernel does not control {', '.join(missing)}: {names} is not enforced"
        found.append(error("cgroups", why, "see the kernel's command line (cgroup_disable=, cgroup_enable=memory)"))
    elif facts.cgroups == 1:
        why = "control groups of version 1: memory_max does not limit swap"
        found.append(warning("cgroups", why, "boot without systemd.unified_cgroup_hierarchy=0"))
    else:
        found.append(ok("cgroups", "memory, processor time and processes of containers can be limited"))
    if not facts.controllers & {"io", "blkio"}:
        why = "the kernel does not control the disk: io_weight is not enforced"
        found.append(warning("cgroups-io", why, "use a kernel with CONFIG_BLK_CGROUP"))
    return found


def judge_namespaces(facts: KernelFacts, shown: Mapping[str, HiveError | None]) -> list[Finding]:
    """Whether containers can have users of their own; for hives that want that.

    `shown` has, for each directory that is bound into containers and could be tried, why it cannot be shown there
    under other user ids.
    """
    if facts.namespaces is None:
        remedy = f"use a kernel with CONFIG_USER_NS, or {_OFF}"
        return [error("user-namespaces", "the kernel has no user namespaces", remedy)]
    if facts.namespaces == 0:
        remedy = f"set the sysctl user.max_user_namespaces, or {_OFF}"
        return [error("user-namespaces", "user namespaces are forbidden", remedy)]
    found = [ok("user-namespaces", "containers can have users of their own")]
    for place, problem in shown.items():
        if problem is None:
            found.append(ok("idmap", f"{place} can be shown to containers under other user ids"))
        else:
            found.append(error("idmap", problem.message, problem.hint))
    return found
