"""The form that changes limits, and the table of limits."""

from __future__ import annotations

import pytest

from hive_core.errors import HiveError
from hive_core.protocol import LimitsRequest
from hive_core.services.dashboard.pages.lifecycle.limits import limit_rows, limits_request


def test_limits_that_are_empty_stay() -> None:
    """Only the limits that were filled in are changed."""
    request = limits_request({"memory_max": "2g", "cpu_quota": " 150 ", "tasks_max": "", "reset": "yes"})
    assert request == {"memory_max": "2G", "cpu_quota": 150, "reset": True}
    LimitsRequest.model_validate(request)
    with pytest.raises(HiveError, match="tasks max is no whole number"):
        limits_request({"tasks_max": "1.5"})


def test_limits_are_shown_with_what_is_used() -> None:
    """Each limit is shown as configured and in force beside the use, and the lack of one is said."""
    found = {
        "usage": {"memory_bytes": 2**20, "disk_bytes": None, "cpu_seconds": 2.0, "tasks": 3},
        "configured": {"memory_max": "1G"},
        "in_force": {"memory_max": "2G"},
    }
    rows = {key: rest for key, *rest in limit_rows(found)}
    assert rows["memory_max"] == ["Memory", "1G", "2G", "1.0 MiB"]
    assert rows["tasks_max"] == ["Processes, threads", "none", "none", "3"]
