"""The drop-in that the hive puts beside a container's unit: its limits, and how it is stopped and started again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hive_core.protocol import Limits
from hive_core.systemd.dropins import limits_dropin


def dropin(limits: Limits, stop_timeout: float, hidden: Sequence[Path] = ()) -> str:
    """Its text; `stop_timeout` is in seconds. What is `hidden` cannot be reached from the container.

    It is hidden from the unit, so that nspawn has nothing but an empty directory to show. What nspawn itself would hide
    (--inaccessible) the container's root could uncover, by unmounting what lies over it.

    The hive starts a crashed container again, not systemd: that would try without end while systemd-machined holds on
    to a container whose first process was killed, as it does until the unit has been down for a moment. A process that
    is killed for want of memory does not take the others of the container with it.
    """
    hiding = "".join(f"InaccessiblePaths=-{path}\n" for path in hidden)
    return (
        f"{limits_dropin(limits)}"
        f"TimeoutStopSec={round(stop_timeout * 1000)}ms\n"
        "Restart=no\n"
        "RestartForceExitStatus=\n"
        "OOMPolicy=continue\n"
        f"{hiding}"
    )
