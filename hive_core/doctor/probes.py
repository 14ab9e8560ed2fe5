"""Looks at the daemon, by asking it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from hive_core.doctor.hive_checks import Hive, Unanswered
from hive_core.protocol import AgentList, Deployment, History, HiveStatus

Ask = Callable[[str], dict[str, Any]]
"""Asks the daemon for a path: its answer. Raises Unanswered."""


def hive(ask: Ask) -> Hive:
    """What the daemon says of itself, of its agents, and of what it deployed last for each of them."""
    try:
        status = HiveStatus.model_validate(ask("/v1/status"))
        agents = AgentList.model_validate(ask("/v1/agents")).agents
        newest: dict[str, Deployment] = {}
        for agent in agents:
            history = History.model_validate(ask(f"/v1/agents/{agent.name}/history?limit=1"))
            if history.deployments:
                newest[agent.name] = history.deployments[0]
    except Unanswered as problem:
        return Hive(problem=problem)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        why = f"the daemon's answer is not understood ({where}): it is another version than this program"
        return Hive(problem=Unanswered("bad_answer", why, "restart the daemon"))
    return Hive(status, None, agents, newest)
