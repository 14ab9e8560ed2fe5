"""The variables with which an agent CLI calls its model through the relay."""

from __future__ import annotations

from typing import Any

import pytest

from hive_agent.client.model_access import use_relay
from hive_agent.environment import AgentEnvironment, RelayAddress
from hive_core.protocol import AgentConfig, Profile
from hive_core.protocol.models.vendors import VENDOR_KEYS, VendorApi

GIVEN = {
    **dict.fromkeys(VENDOR_KEYS, "a real key"),
    "ANTHROPIC_BASE_URL": "https://elsewhere.example",
    "CLAUDE_CODE_USE_BEDROCK": "1",
    "ANTHROPIC_CUSTOM_HEADERS": "x-api-key: a real key",
    "CLAUDE_CODE_MAX_RETRIES": "3",
    "NO_PROXY": "example.org",
    "PATH": "/bin",
}


def used(api: VendorApi | None, relay: RelayAddress | None, **keys: Any) -> tuple[Profile, dict[str, str]]:
    """Return the profile and the variables of a backend."""
    config = AgentConfig.model_validate({"backend": "opencode", "provider": "vendor", **keys})
    profile = Profile(
        name="ada", kind="agent", config=config, prompt="", deployment=0, lease_seconds=60, provider_api=api
    )
    environment = AgentEnvironment.read(GIVEN)
    profile, environment = use_relay(profile, AgentEnvironment(**{**vars(environment), "relay": relay}))
    return profile, dict(environment.variables)


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        ("anthropic", {"ANTHROPIC_BASE_URL": "http://127.0.0.1:3129/vendor", "ANTHROPIC_API_KEY": "placeholder"}),
        (
            "openai",
            {
                "OPENAI_BASE_URL": "http://127.0.0.1:3129/vendor/v1",
                "OPENAI_API_KEY": "placeholder",
                "CODEX_API_KEY": "placeholder",
            },
        ),
        (
            "google",
            {
                "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:3129/vendor",
                "GEMINI_API_KEY": "placeholder",
                "GOOGLE_GENERATIVE_AI_API_KEY": "placeholder",
            },
        ),
    ],
)
def test_models_are_called_through_the_relay(api: VendorApi, expected: dict[str, str]) -> None:
    """The CLI gets the address and a placeholder in place of all keys and other addresses, and no proxy for them."""
    _, variables = used(api, RelayAddress(3_129, "placeholder"))
    others = {"CLAUDE_CODE_MAX_RETRIES": "3", "PATH": "/bin"}
    proxies = {"NO_PROXY": "example.org,127.0.0.1", "no_proxy": "127.0.0.1"}
    assert variables == {**expected, **others, **proxies}


def test_no_key_is_left_without_the_relay() -> None:
    """An agent has no vendor's key either where no listener could be made, or the provider is gone."""
    for api, relay in (("anthropic", None), (None, RelayAddress(1, "placeholder"))):
        _, variables = used(api, relay)  # type: ignore[arg-type]
        assert variables == {"CLAUDE_CODE_MAX_RETRIES": "3", "PATH": "/bin", "NO_PROXY": "example.org"}


def test_tools_that_search_the_web_need_the_feature() -> None:
    """A tool that the relay would refuse is not offered to the model."""
    tools = ["Bash", "WebSearch", "WebFetch"]
    relay = RelayAddress(1, "placeholder")
    assert used("anthropic", relay, tools=tools)[0].config.tools == ["Bash", "WebFetch"]
    assert used("anthropic", relay, tools=tools, features=["web"])[0].config.tools == tools


def test_an_agent_without_a_provider_keeps_what_it_has() -> None:
    """Nothing changes for an agent with a key or a login of its own."""
    _, variables = used("anthropic", None, provider=None)
    assert variables == GIVEN
