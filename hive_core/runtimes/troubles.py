"""What goes wrong in an agent's container without ending it."""

from __future__ import annotations

from dataclasses import dataclass

from hive_core.runtimes.base import UnitState


@dataclass(frozen=True)
class OutOfMemory(UnitState):
    """The agent's limit of memory was reached, and a process of its was killed for that; the agent goes on."""

    @classmethod
    def of(cls, state: UnitState) -> OutOfMemory:
        """It happened in this state."""
        return cls(**vars(state))
