"""The agents of which a caller may know, as a question about one agent and as a condition in SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

ADMINS = ""
"""The owner of the manager: no person, but all admins."""


@dataclass(frozen=True)
class Sight:
    """A view of the hive's agents: those that nobody owns, and those of one person; `all_agents` for all.

    `owners` is the daemon's own table of owners by agent, so that a stream sees a change of it at once. `only` are the
    agents of an API token that is limited to some.
    """

    owners: Mapping[str, str] = field(default_factory=dict)
    person: str = ""
    all_agents: bool = True
    only: frozenset[str] | None = None

    def __call__(self, agent: str) -> bool:
        """Return True if the caller may know of the agent, or of a party that is none."""
        if self.only is not None and agent not in self.only:
            return False
        if self.all_agents:
            return True
        owner = self.owners.get(agent)
        return owner is None or owner == self.person

    @property
    def whole(self) -> bool:
        """True if nothing is hidden from the caller."""
        return self.all_agents and self.only is None

    def condition(self, column: str) -> tuple[str, list[str]]:
        """Return a condition in SQL that holds where `column` names an agent that is seen, and its parameters."""
        if self.whole:
            return "1", []
        if self.only is not None:
            names = [name for name in self.only if self(name)]
            return f"{column} IN (SELECT value FROM json_each(?))", [json.dumps(names)]  # noqa: S608
        hidden = [name for name, owner in self.owners.items() if owner != self.person]
        return f"{column} NOT IN (SELECT value FROM json_each(?))", [json.dumps(hidden)]  # noqa: S608


EVERYTHING = Sight()
"""The view of the operator on `host.sock`, and of the hive itself."""
