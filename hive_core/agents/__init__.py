"""The agents of a hive: records, files, lifecycle, deployment, limits, health, and access to their pages."""

from __future__ import annotations

from hive_core.agents.lifecycle import AgentLifecycle
from hive_core.agents.store import ActiveConfig

__all__ = ["ActiveConfig", "AgentLifecycle"]
