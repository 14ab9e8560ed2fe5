"""The state of the hive as the overview needs it, asked from the daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from hive_core.services.dashboard.hive_client import HiveClient, path_of
from hive_core.services.dashboard.pages.overview.needs import Need, find_decisions, find_stopped
from hive_core.services.dashboard.pages.overview.rows import AgentRow, Filter, make_rows
from hive_core.services.dashboard.visit import Visit

_KEPT_SECONDS = 2.0
_MOST = 100

_activity: WeakKeyDictionary[HiveClient, tuple[float, Mapping[str, Any]]] = WeakKeyDictionary()
"""The last answer to each client, which for live parts is that of a session: it changes slowly."""


async def load_agents(visit: Visit, chosen: Filter) -> tuple[Sequence[Mapping[str, Any]], list[AgentRow]]:
    """Return all agents as the daemon tells them, and the rows of those that `chosen` lets through."""
    found, activity = await asyncio.gather(visit.hive.get(path_of("agents")), _load_activity(visit.hive))
    agents = found["agents"]
    return agents, make_rows(agents, activity, chosen, datetime.now(UTC))


async def load_stopped(visit: Visit) -> list[Need]:
    """Return the agents that stand still until a person does something."""
    return find_stopped((await visit.hive.get(path_of("agents")))["agents"])


async def load_decisions(visit: Visit) -> list[Need]:
    """Return what agents wait for a person to decide or to answer."""
    hive = visit.hive
    proposals, work, requests, questions = await asyncio.gather(
        hive.get(path_of("proposals"), {"state": "open", "limit": _MOST}),
        hive.get(path_of("work"), {"state": "open", "limit": _MOST}),
        hive.get(path_of("network", "requests"), {"limit": _MOST}),
        hive.get(path_of("questions"), {"limit": _MOST}),
    )
    return find_decisions(proposals["proposals"], work["work"], requests["requests"], questions["questions"])


async def _load_activity(hive: HiveClient) -> Mapping[str, Any]:
    known = _activity.get(hive)
    if known is not None and time.monotonic() - known[0] < _KEPT_SECONDS:
        return known[1]
    found = await hive.get(path_of("activity"))
    _activity[hive] = (time.monotonic(), found)
    return found
