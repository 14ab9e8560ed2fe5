"""Who asks something of the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hive_core.protocol import Decider
from hive_core.protocol.names import MANAGER, OPERATOR

Role = Literal["agent", "manager", "operator", "system"]


@dataclass(frozen=True)
class Party:
    """A caller. `name` is an agent's, `operator` or `system`; `actor` is how the audit table and the tags name it."""

    name: str
    role: Role
    actor: str

    @property
    def label(self) -> str:
        """How tags and proposals name it: an agent by its name, a person by the user's."""
        return self.actor if self.role == "operator" else self.name


SYSTEM = Party("system", "system", "system")


def name_in(label: str) -> str:
    """The name of the party with that label."""
    return label.split(":", 1)[0]


def asked(proposer: str, waits_for: Decider | None) -> list[str]:
    """Whom the fate of a proposal concerns: who made it, and who was asked to decide."""
    names = [name_in(proposer)]
    if waits_for is not None:
        names.append(MANAGER if waits_for == "manager" else OPERATOR)
    return list(dict.fromkeys(names))
