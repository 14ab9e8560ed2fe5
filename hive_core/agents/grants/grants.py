"""All that the operator lets agents have of the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hive_core.agents.grants.limits import LimitPolicy
from hive_core.agents.grants.offers import HostOffers
from hive_core.agents.grants.secrets import AgentSecrets
from hive_core.protocol import AgentConfig


@dataclass(frozen=True)
class Grants:
    """The parts that say what an agent gets; without `secrets` no agent has any.

    `check_models` raises HiveError for a provider, a model or a budget that an agent cannot have.
    """

    limits: LimitPolicy = field(default_factory=LimitPolicy)
    secrets: AgentSecrets | None = None
    offers: HostOffers = field(default_factory=HostOffers)
    check_models: Callable[[AgentConfig], None] = lambda _: None
