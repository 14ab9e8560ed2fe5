"""Answers of the daemon about agents, as the overview reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hive_core.protocol import ActivityList, AgentActivity, AgentStatus

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[2J</td>\"'"


def ago(**length: float) -> str:
    return (NOW - timedelta(**length)).isoformat()


def agent(name: str, **changes: Any) -> dict[str, Any]:
    """An agent that runs and is idle, but for the changes."""
    told: dict[str, Any] = {
        "kind": "agent",
        "lifecycle": "running",
        "state": "idle",
        "backend": "claude",
        "model": None,
        "detail": "",
        "state_since": ago(minutes=5),
        "started_at": ago(hours=1),
        "pid": 7,
        "restarts": 0,
        "exit_cause": "",
        "unacked": 0,
        "web_port": 8100,
        "deployment": 1,
        "confinement": "nspawn",
    }
    found: dict[str, Any] = AgentStatus.model_validate({"name": name, **told, **changes}).model_dump(mode="json")
    return {**found, **changes}


def activity(*agents: dict[str, Any], **spawned_by: str) -> dict[str, Any]:
    """The activities of these agents, and who asked for which."""
    doing = [AgentActivity.model_validate(each) for each in agents]
    answer = ActivityList(agents=doing, spawned_by=spawned_by, sample_seconds=10)
    return answer.model_dump(mode="json")
