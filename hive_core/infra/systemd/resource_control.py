"""Limits as drop-in text and as unit properties.

Names and units are those of systemd.resource-control(5) and org.freedesktop.systemd1(5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hive_core.protocol import Limits
from hive_core.protocol.config.limits import memory_bytes, memory_size

LIMITS = ("MemoryMax", "CPUQuotaPerSecUSec", "TasksMax", "IOWeight")
"""Unit properties that are read."""
_INFINITY = 2**64 - 1
_USEC_PER_PERCENT = 10_000

_LOG_SECONDS = 30
_LOG_LINES = 500
"""Lines of a container in so many seconds that the journal takes, four times as many where the disk has much room
(journald.conf(5), RateLimitBurst). The start of a container writes about 200."""

_HEAD = """\
# Written by hive-c0re before each start of the container; manual changes are lost then.
[Service]
"""


def limits_dropin(limits: Limits) -> str:
    """Return the lines of a drop-in that set `limits`; None leaves a limit to the unit and the host's defaults."""
    lines = []
    if limits.memory_max is not None:
        # Without MemorySwapMax a container would continue in swap. Hosts without swap accounting ignore it.
        lines += [f"MemoryMax={memory_bytes(limits.memory_max)}", "MemorySwapMax=0"]
    if limits.cpu_quota is not None:
        lines.append(f"CPUQuota={limits.cpu_quota}%")
    if limits.tasks_max is not None:
        lines.append(f"TasksMax={limits.tasks_max}")
    if limits.io_weight is not None:
        lines.append(f"IOWeight={limits.io_weight}")
    return _HEAD + "".join(f"{line}\n" for line in lines)


def unit_properties(limits: Limits) -> dict[str, int]:
    """Return the unit properties that set all of `limits`; None removes a limit."""
    memory = _INFINITY if limits.memory_max is None else memory_bytes(limits.memory_max)
    return {
        "MemoryMax": memory,
        "MemorySwapMax": _INFINITY if limits.memory_max is None else 0,
        "CPUQuotaPerSecUSec": _INFINITY if limits.cpu_quota is None else limits.cpu_quota * _USEC_PER_PERCENT,
        "TasksMax": _INFINITY if limits.tasks_max is None else limits.tasks_max,
        "IOWeight": _INFINITY if limits.io_weight is None else limits.io_weight,
    }


def active_limits(properties: Mapping[str, Any]) -> Limits:
    """Return the limits in a unit's properties, rounded to values that the protocol can express."""
    memory, cpu = _read_limit(properties, "MemoryMax"), _read_limit(properties, "CPUQuotaPerSecUSec")
    tasks, weight = _read_limit(properties, "TasksMax"), _read_limit(properties, "IOWeight")
    return Limits(
        memory_max=None if memory is None else memory_size(memory),
        cpu_quota=None if cpu is None else _clamp(1, -(-cpu // _USEC_PER_PERCENT), 100_000),
        tasks_max=None if tasks is None else _clamp(16, tasks, 1_000_000),
        io_weight=None if weight is None else _clamp(1, weight, 10_000),
    )


def _read_limit(properties: Mapping[str, Any], name: str) -> int | None:
    value = properties.get(name)
    return None if value is None or value == _INFINITY else int(value)


def _clamp(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))


_HIDDEN = "InaccessiblePaths=-"


def hidden_paths(text: str) -> list[str]:
    """Return the paths that a drop-in hides."""
    return [line.removeprefix(_HIDDEN) for line in text.splitlines() if line.startswith(_HIDDEN)]


def dropin(
    limits: Limits,
    stop_timeout: float,
    *,
    sealed: bool = False,
    hidden: Sequence[Path] = (),
    devices: Sequence[Path] = (),
) -> str:
    """Return the text of the drop-in for a container's unit.

    Args:
        limits: the limits of the container.
        stop_timeout: in seconds.
        sealed: whether the container has a network of its own. nspawn 257 makes `/dev/net/tun` in such a container,
            and does not start it where the unit's device policy forbids that.
        hidden: paths that cannot be reached from the container. They are hidden from the whole unit, so that nspawn
            itself sees only an empty directory. Root in the container could undo nspawn's own --inaccessible by
            unmounting what covers the path.
        devices: nodes of devices that the container may use; the unit's policy forbids all others. nspawn 257 makes
            /dev/fuse itself in a container that may use it, and does not start it where the policy forbids the making.

    The daemon restarts a crashed container, not systemd. systemd would retry endlessly while systemd-machined still has
    the container registered, which it does until the unit has been down for a moment. A process that is killed for lack
    of memory does not end the other processes of the container. What a container writes on its console goes to the
    journal that the daemon writes to as well, so it has a stricter limit there than journald's own.
    """
    device = "DeviceAllow=/dev/net/tun rwm\n" if sealed else ""
    device += "".join(f"DeviceAllow={node} rwm\n" for node in devices)
    hiding = "".join(f"{_HIDDEN}{path}\n" for path in hidden)
    return (
        f"{limits_dropin(limits)}"
        f"TimeoutStopSec={round(stop_timeout * 1000)}ms\n"
        "Restart=no\n"
        "RestartForceExitStatus=\n"
        "OOMPolicy=continue\n"
        f"LogRateLimitIntervalSec={_LOG_SECONDS}\n"
        f"LogRateLimitBurst={_LOG_LINES}\n"
        f"{device}{hiding}"
    )
