"""The use of a provider by an agent: what its configuration asks for, if the operator offers it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hive_core.errors import HiveError
from hive_core.errors.faults import did_you_mean
from hive_core.protocol import AgentConfig
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.providers import ProviderAccess, ProviderSettings, is_allowed_model
from hive_core.protocol.models.vendors import BACKEND_APIS, CLAUDE_SHORT_NAMES, model_at_vendor


def find_access(config: AgentConfig, providers: Mapping[str, ProviderSettings]) -> ProviderAccess | None:
    """Return what an agent of this configuration may use; None if it names no provider.

    Raises HiveError `unknown_provider`, `wrong_api`, `feature_not_offered`, `model_not_offered`.
    """
    if config.provider is None:
        return None
    name, provider = config.provider, providers.get(config.provider)
    if provider is None:
        known = ", ".join(sorted(providers)) or "none"
        raise HiveError(
            "unknown_provider",
            f"provider: the hive has no provider {name!r}{did_you_mean(name, list(providers))}",
            hint=f"its providers are: {known}; `relay.providers` in the settings adds one",
        )
    if provider.api not in BACKEND_APIS[config.backend]:
        fitting = [other for other, each in providers.items() if each.api in BACKEND_APIS[config.backend]]
        raise HiveError(
            "wrong_api",
            f"provider: {name} speaks the API of {provider.api}, which the backend {config.backend} does not speak",
            hint=f"providers that it can use: {', '.join(sorted(fitting)) or 'none'}; or choose another backend",
        )
    if others := [feature for feature in config.features if feature not in provider.features]:
        raise HiveError(
            "feature_not_offered",
            f"features: the provider {name} does not offer {', '.join(others)}",
            hint=f"it offers: {', '.join(provider.features) or 'none'}; the operator sets it in `relay.providers`",
        )
    if not _is_offered(config, provider):
        raise HiveError(
            "model_not_offered",
            f"model: the provider {name} does not offer {config.model!r}",
            hint=f"it offers: {', '.join(provider.models)}; the operator sets it in `relay.providers`",
        )
    return ProviderAccess(provider=name, models=provider.models, features=config.features)


def _is_offered(config: AgentConfig, provider: ProviderSettings) -> bool:
    if config.model is None or (config.backend == "claude" and config.model in CLAUDE_SHORT_NAMES):
        return True  # The agent CLI chooses the model, and the relay looks at it in each call.
    return is_allowed_model(model_at_vendor(config.backend, provider.api, config.model), provider.models)


def check_budget(asked: SpendingLimits, ceilings: SpendingLimits) -> None:
    """Raise HiveError `above_ceiling`, which names every limit of a budget that is above the operator's ceiling."""
    if found := list(_excesses(asked, ceilings)):
        most = ", ".join(f"{key} = {ceiling:g}" for key, _, ceiling in found)
        raise HiveError(
            "above_ceiling",
            "; ".join(
                f"budget.{key}: {value:g} is above the operator's ceiling, {most:g}" for key, value, most in found
            ),
            hint=f"ask for no more than {most}; the operator can raise `budget.ceilings` in the daemon's settings",
        )


def _excesses(asked: SpendingLimits, ceilings: SpendingLimits) -> Iterator[tuple[str, float, float]]:
    for key in SpendingLimits.model_fields:
        value, ceiling = getattr(asked, key), getattr(ceilings, key)
        if value is not None and ceiling is not None and value > ceiling:
            yield key, value, ceiling
