"""The drop-in that the hive puts beside a container's unit: its limits, and how it is stopped and started again."""

from __future__ import annotations

from hive_core.protocol import Limits
from hive_core.systemd.dropins import limits_dropin


def dropin(limits: Limits, stop_timeout: float) -> str:
    """Its text; `stop_timeout` is in seconds.

    The hive starts a crashed container again, not systemd: that would try without end while systemd-machined holds on
    to a container whose first process was killed, as it does until the unit has been down for a moment. A process that
    is killed for want of memory does not take the others of the container with it.
    """
    return (
        f"{limits_dropin(limits)}"
        f"TimeoutStopSec={round(stop_timeout * 1000)}ms\n"
        "Restart=no\n"
        "RestartForceExitStatus=\n"
        "OOMPolicy=continue\n"
    )
