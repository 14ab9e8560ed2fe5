"""The agents of a hive: their records, their files, their life from spawn to destroy."""

from __future__ import annotations

from hive_core.agents.lifecycle import AgentLifecycle
from hive_core.agents.store import ActiveConfig

__all__ = ["ActiveConfig", "AgentLifecycle"]
