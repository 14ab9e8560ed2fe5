"""The refusals of agents' calls by vendors: after many in a row, no more calls of the agent are passed on. No I/O."""

from __future__ import annotations

from collections import Counter

from hive_core.protocol.models.usage import CallOutcome

MOST_REFUSALS = 5
"""Refusals of an agent's calls by a vendor (401, 403) in a row, after which the agent is stopped."""
_REFUSED = (401, 403)


class VendorRefusals:
    """Counts the refusals of each agent by each provider in a row. It starts anew with the daemon."""

    def __init__(self) -> None:
        self._in_a_row: Counter[tuple[str, str]] = Counter()

    def count(self, agent: str, provider: str, outcome: CallOutcome, status: int | None) -> bool:
        """Count the end of a call; return True if the agent is stopped because of it."""
        if status in _REFUSED:
            self._in_a_row[agent, provider] += 1
            return self._in_a_row[agent, provider] == MOST_REFUSALS
        if outcome == "done":
            del self._in_a_row[agent, provider]
        return False

    def is_stopped(self, agent: str, provider: str | None = None) -> bool:
        """Return True if calls of an agent to a provider, or to any, are not passed on."""
        return any(
            count >= MOST_REFUSALS and each == agent and provider in (None, of)
            for (each, of), count in self._in_a_row.items()
        )

    def let_go_on(self, agent: str | None = None) -> list[str]:
        """Forget the refusals of an agent, or of all; return the agents that were stopped."""
        keys = [key for key in self._in_a_row if agent in (None, key[0])]
        stopped = sorted({key[0] for key in keys if self._in_a_row[key] >= MOST_REFUSALS})
        for key in keys:
            del self._in_a_row[key]
        return stopped


def stopped_text(agent: str, provider: str) -> str:
    """Return what an agent is told of a call that is not passed on."""
    return (
        f"the provider {provider} has refused {MOST_REFUSALS} calls of {agent} in a row (401 or 403), so no more are"
        f" passed on. When the cause is mended, the operator lets it go on: hive-c0re resume {agent}"
    )
