"""The agents of a hive: records, files, lifecycle, deployment, limits, health, and access to their pages."""

from __future__ import annotations

from hive_core.agents.deployment import DeploymentManager
from hive_core.agents.grants.limits import AgentLimits
from hive_core.agents.lifecycle import AgentLifecycle
from hive_core.agents.registry import AgentRegistry
from hive_core.agents.store import ActiveConfig

__all__ = ["ActiveConfig", "AgentLifecycle", "AgentLimits", "AgentRegistry", "DeploymentManager"]
