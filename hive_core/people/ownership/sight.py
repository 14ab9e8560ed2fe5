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

    def condition(self, column: str, parameter: str = ":names") -> str:
        """Return a condition in SQL that holds where `column` names an agent that is seen; `names` is its parameter."""
        if self.whole:
            return f"{parameter} IS NOT NULL"
        inside = "IN" if self.only is not None else "NOT IN"
        return f"{column} {inside} (SELECT value FROM json_each({parameter}))"  # noqa: S608

    @property
    def names(self) -> str:
        """The parameter of the condition: agents that are seen, or those that are not, as a list in JSON."""
        if self.only is not None:
            return json.dumps(sorted(filter(self, self.only)))
        return json.dumps([] if self.whole else [name for name, owner in self.owners.items() if owner != self.person])


EVERYTHING = Sight()
"""The view of the operator on `host.sock`, and of the hive itself."""


def seen_rows(sees: Sight, actor: str) -> tuple[str, dict[str, str]]:
    """Return the condition in SQL for the rows of the audit table that a caller may see, and its parameters.

    These are the caller's own rows, and those about agents of which the caller may know, but for what others do there
    of whom they may not.
    """
    known = "subject IN (SELECT name FROM web_ports UNION SELECT agent FROM proposals)"
    by = "substr(actor, 1, 6) != 'agent:' OR " + sees.condition("substr(actor, 7)")
    where = f"actor = :self OR ({known} AND {sees.condition('subject')} AND ({by}))"
    return where, {"self": actor, "names": sees.names}
