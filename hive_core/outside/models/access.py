"""The use of a provider by an agent: what its configuration asks for, if the operator offers it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from hive_core.errors import HiveError
from hive_core.errors.faults import did_you_mean
from hive_core.protocol.models.providers import AgentModels, ProviderAccess, ProviderSettings


def find_access(asked: AgentModels, providers: Mapping[str, ProviderSettings]) -> ProviderAccess:
    """Return what the agent may use. Raises HiveError `unknown_provider` and `feature_not_offered`."""
    provider = providers.get(asked.provider)
    if provider is None:
        known = ", ".join(sorted(providers)) or "none"
        raise HiveError(
            "unknown_provider",
            f"the hive has no provider {asked.provider!r}{did_you_mean(asked.provider, list(providers))}",
            hint=f"its providers are: {known}; `relay.providers` in the settings adds one",
        )
    others = [feature for feature in asked.features if feature not in provider.features]
    if others:
        raise HiveError(
            "feature_not_offered",
            f"the provider {asked.provider} does not offer: {', '.join(others)}",
            hint=f"it offers: {', '.join(provider.features) or 'none'}; the operator sets it in `relay.providers`",
        )
    return ProviderAccess(provider=asked.provider, models=provider.models, features=asked.features)
