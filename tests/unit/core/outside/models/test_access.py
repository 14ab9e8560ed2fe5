"""The use of a provider, and the budget, that a configuration may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from hive_core.errors import HiveError
from hive_core.outside.models.access import check_budget, find_access
from hive_core.outside.models.opening import model_checks
from hive_core.protocol import AgentConfig
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.providers import ProviderSettings
from hive_core.settings import Settings

PROVIDERS = {
    "vendor": ProviderSettings(api="anthropic", keys=["key"], models=["claude-*"], features=["web", "urls"]),
    "other": ProviderSettings(api="openai", keys=["key"]),
}


def asking(**keys: Any) -> AgentConfig:
    return AgentConfig.model_validate({"backend": "claude", "provider": "vendor", **keys})


def test_an_agent_gets_what_it_asks_for() -> None:
    """Only the features that the configuration names are allowed, and the models that the provider allows."""
    access = find_access(asking(features=["web"]), PROVIDERS)
    assert access is not None
    assert (access.provider, access.models, access.features) == ("vendor", ["claude-*"], ["web"])
    assert find_access(AgentConfig(), PROVIDERS) is None


@pytest.mark.parametrize(
    ("asked", "code", "named"),
    [
        ({"provider": "vendr"}, "unknown_provider", "did you mean 'vendor'?"),
        ({"features": ["web", "code"]}, "feature_not_offered", "does not offer code"),
        ({"model": "gpt-5"}, "model_not_offered", "does not offer 'gpt-5'"),
        ({"backend": "opencode", "model": "anthropic/gpt-5"}, "model_not_offered", "'anthropic/gpt-5'"),
        ({"backend": "codex"}, "wrong_api", "codex does not speak"),
        ({"backend": "gemini", "provider": "other"}, "wrong_api", "the API of openai"),
    ],
)
def test_what_is_not_offered_is_refused(asked: dict[str, Any], code: str, named: str) -> None:
    """A provider, a feature or a model that the operator does not offer is refused by name, under its key."""
    with pytest.raises(HiveError) as refused:
        find_access(asking(**asked), PROVIDERS)
    assert refused.value.code == code
    assert named in refused.value.message
    assert refused.value.message.partition(":")[0] in AgentConfig.model_fields


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "claude-opus-4"},
        {"model": "sonnet"},
        {"backend": "opencode", "model": "anthropic/claude-opus-4"},
        {"backend": "opencode", "model": "claude-opus-4"},
        {"backend": "codex", "provider": "other", "model": "gpt-5"},
        {"backend": "scripted"},
    ],
)
def test_what_is_offered_is_allowed(asked: dict[str, Any]) -> None:
    """Models pass by the names that their agent CLI gives them, short names of Claude Code until a call is made."""
    assert find_access(asking(**asked), PROVIDERS) is not None


def test_what_was_deployed_starts_as_long_as_its_provider_is_there() -> None:
    """A ceiling that was lowered since keeps no agent from its start, but the lack of its provider does."""
    budget = {"ceilings": {"money_per_day": 5}}
    settings = Settings.model_validate({"relay": {"providers": PROVIDERS}, "budget": budget})
    check_proposed, check_start = model_checks(settings)
    spender = asking(budget={"money_per_day": 6})
    check_start(spender)
    with pytest.raises(HiveError, match=r"budget\.money_per_day"):
        check_proposed(spender)
    for check in model_checks(Settings()):
        with pytest.raises(HiveError, match="no provider 'vendor'"):
            check(asking())
        check(AgentConfig())


def test_budgets_above_ceilings_are_refused() -> None:
    """Each limit of a budget that is above its ceiling is named, with the ceiling; others pass."""
    ceilings = SpendingLimits(money_per_day=20.0, calls_total=100)
    check_budget(SpendingLimits(money_per_day=20.0, tokens_total=10**12), ceilings)
    with pytest.raises(HiveError) as refused:
        check_budget(SpendingLimits(money_per_day=50.5, calls_total=101), ceilings)
    assert refused.value.code == "above_ceiling"
    assert "budget.money_per_day: 50.5 is above the operator's ceiling, 20" in refused.value.message
    assert "budget.calls_total: 101 is above" in refused.value.message
