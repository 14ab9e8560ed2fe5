"""All that the operator lets agents have of the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hive_core.agents.grants.limits import LimitPolicy
from hive_core.agents.grants.offers import HostOffers
from hive_core.agents.grants.secrets import AgentSecrets
from hive_core.protocol import AgentConfig
from hive_core.protocol.models.vendors import VENDOR_KEYS


def without_vendor_keys(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables of an agent whose model is called with a key that only the relay has."""
    return {name: value for name, value in variables.items() if name not in VENDOR_KEYS}


@dataclass(frozen=True)
class Grants:
    """The parts that say what an agent gets; without `secrets` no agent has any.

    `check_models` raises HiveError for a provider, a model or a budget that an agent cannot have, `check_provider` for
    a provider that is not there any more.
    """

    limits: LimitPolicy = field(default_factory=LimitPolicy)
    secrets: AgentSecrets | None = None
    offers: HostOffers = field(default_factory=HostOffers)
    check_models: Callable[[AgentConfig], None] = lambda _: None
    check_provider: Callable[[AgentConfig], None] = lambda _: None
