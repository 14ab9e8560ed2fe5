"""What an agent may use of a provider."""

from __future__ import annotations

import pytest

from hive_core.errors import HiveError
from hive_core.outside.models.access import find_access
from hive_core.protocol.models.providers import AgentModels, ProviderSettings

PROVIDERS = {"vendor": ProviderSettings(api="anthropic", keys=["key"], models=["claude-*"], features=["web", "urls"])}


def test_an_agent_gets_what_it_asks_for() -> None:
    """Only the features that the configuration names are allowed, and the models that the provider allows."""
    access = find_access(AgentModels(provider="vendor", features=["web"]), PROVIDERS)
    assert (access.provider, access.models, access.features) == ("vendor", ["claude-*"], ["web"])


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (AgentModels(provider="vendr"), "unknown_provider"),
        (AgentModels(provider="vendor", features=["web", "code"]), "feature_not_offered"),
    ],
)
def test_what_is_not_offered_is_refused(asked: AgentModels, code: str) -> None:
    """A provider or a feature that the operator does not offer is refused by name."""
    with pytest.raises(HiveError) as refused:
        find_access(asked, PROVIDERS)
    assert refused.value.code == code
    assert "vendor" in refused.value.message
