"""The interface to the agents, of which the network knows only their records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hive_core.agents.store import AgentRecord


class KnownAgents(Protocol):
    """Interface to the agents, as far as this package needs it."""

    def find(self, name: str) -> AgentRecord | None:
        """Return the agent's record, or None."""

    def record(self, name: str) -> AgentRecord:
        """Return the agent's record. Raises `unknown_agent`, `bad_name`."""

    def all(self) -> Sequence[AgentRecord]:
        """Return the records of all agents."""
