"""The rule of an endpoint: the least role of a person who may use it, and the subject whose owner decides besides.

The rules hold on `dashboard.sock`. An endpoint without a rule is not for people there, and a table that has one is
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hive_core.people.signed_in import Role

Least = Literal["visitor", Role]
"""`visitor` is everybody, also those who are not signed in."""

Subject = Literal[
    "hive",
    "own",
    "listing",
    "agent",
    "history",
    "proposal",
    "proposed_agent",
    "question",
    "network_request",
    "work",
    "reply",
    "new_agent",
]
"""The part of a request that names whose the matter is.

`hive`: the matter is that of the whole hive, and not for API tokens that are limited to some agents. `own`: that of the
caller's account. `listing`: the endpoint itself leaves out what its caller may not see. `agent` is in the path and
exists, `history` is that of an agent in the path, which may be gone. `proposal`, `work`, `question` and
`network_request` are named in the path. `proposed_agent` is in the body, and `new_agent` is the one that a body makes.
`reply` is that to a message of the caller's own.
"""

_ORDER: Sequence[Least] = ("visitor", "viewer", "operator", "admin")


@dataclass(frozen=True)
class EndpointRule:
    """The least role, and the subject."""

    role: Least
    subject: Subject = "hive"

    @property
    def public(self) -> bool:
        """True if nobody has to be signed in."""
        return self.role == "visitor"

    def allows(self, role: Role) -> bool:
        """Return True if a person of that role may use the endpoint, as far as the subject allows it."""
        return _ORDER.index(role) >= _ORDER.index(self.role)


PUBLIC = EndpointRule("visitor")
