"""Models of the limits of an agent's container."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from hive_core.errors.faults import in_words
from hive_core.protocol.base import Answer, Request

MemorySize = Annotated[
    str,
    StringConstraints(pattern=r"^[1-9][0-9]{0,8}[MG]$"),
    in_words("it must be a size in MiB or GiB, such as 512M or 3G"),
]
"""In MiB or GiB: "512M", "3G"."""
CpuQuota = Annotated[int, Field(ge=1, le=100_000)]
"""In percent of one core."""
TasksMax = Annotated[int, Field(ge=16, le=1_000_000)]
IoWeight = Annotated[int, Field(ge=1, le=10_000)]
"""Share of the disk relative to others; 100 is the default (systemd.resource-control(5))."""

_UNITS = {"M": 1024**2, "G": 1024**3}


class Limits(Request):
    """Limits of one agent; None sets none.

    `disk_max` is for all that the agent can write, the others are for its container.
    """

    memory_max: MemorySize | None = None
    disk_max: MemorySize | None = None
    cpu_quota: CpuQuota | None = None
    tasks_max: TasksMax | None = None
    io_weight: IoWeight | None = None


class LimitsRequest(Limits):
    """Change limits of a running agent at once, until it is deployed anew; what is None stays.

    `reset` first restores the limits of its configuration and of the operator's settings.
    """

    reset: bool = False


class Usage(Answer):
    """The resources that an agent uses, as its control group and its disk quota report them; None where unknown."""

    memory_bytes: int | None = None
    disk_bytes: int | None = None
    cpu_seconds: float | None = None
    tasks: int | None = None


class LimitsAnswer(Answer):
    """The limits of an agent: those `configured` by its and the operator's settings, and those `in_force` now.

    `enforced` is false where the runtime cannot limit anything but the disk. `disk_problem` says why no `disk_max` is
    enforced; it is empty if one is, or would be.
    """

    name: str
    configured: Limits
    in_force: Limits
    enforced: bool
    disk_problem: str = ""
    usage: Usage


def memory_bytes(size: MemorySize) -> int:
    """Return a memory size in bytes."""
    return int(size[:-1]) * _UNITS[size[-1]]


_MOST_UNITS = 999_999_999


def memory_size(size: int) -> MemorySize:
    """Return a number of bytes as a memory size, rounded to one that can be expressed."""
    mib = max(1, size // _UNITS["M"])
    if mib % 1024 == 0 or mib > _MOST_UNITS:
        return f"{min(mib // 1024, _MOST_UNITS)}G"
    return f"{mib}M"
