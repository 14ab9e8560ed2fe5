"""Models through the relay: the addresses and the placeholder that an agent CLI gets in place of a vendor's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hive_agent.environment import AgentEnvironment, RelayAddress
from hive_core.protocol import AgentConfig, Profile
from hive_core.protocol.models.vendors import VENDOR_KEYS, VendorApi

_OTHER_WAYS = ("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_VERTEX_BASE_URL")
_OTHER_SERVICES = ("CLAUDE_CODE_USE_", "GOOGLE_GENAI_USE_", "ANTHROPIC_CUSTOM_HEADERS")
"""Beginnings of variables with which agent CLIs call their models elsewhere."""
_LOOPBACK = "127.0.0.1"


def use_relay(profile: Profile, environment: AgentEnvironment) -> tuple[Profile, AgentEnvironment]:
    """Return the profile and environment of a backend whose model is called through the relay, if it is to be so.

    Tools that make the vendor search the web are left out without the feature for it: the relay would refuse calls.
    """
    config, relay = profile.config, environment.relay
    if config.provider is None:
        return profile, environment
    variables = _without_vendors(environment.variables)
    if relay is not None and profile.provider_api is not None:
        variables |= _addresses(config.provider, profile.provider_api, relay)
        variables |= _direct(variables)
    changed = profile.model_copy(update={"config": _without_searches(config)})
    return changed, replace(environment, variables=variables)


def _without_vendors(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without keys of vendors, and without addresses and services of others."""
    return {
        name: value
        for name, value in variables.items()
        if name not in VENDOR_KEYS and name not in _OTHER_WAYS and not name.startswith(_OTHER_SERVICES)
    }


def _addresses(provider: str, api: VendorApi, relay: RelayAddress) -> dict[str, str]:
    base = f"http://{_LOOPBACK}:{relay.port}/{provider}"
    match api:
        case "anthropic":
            return {"ANTHROPIC_BASE_URL": base, "ANTHROPIC_API_KEY": relay.key}
        case "openai":
            return {"OPENAI_BASE_URL": f"{base}/v1", "OPENAI_API_KEY": relay.key, "CODEX_API_KEY": relay.key}
    return {
        "GOOGLE_GEMINI_BASE_URL": base,
        "GEMINI_API_KEY": relay.key,
        "GOOGLE_GENERATIVE_AI_API_KEY": relay.key,
    }


def _direct(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep calls of the loopback from a proxy."""
    found = {}
    for name in ("no_proxy", "NO_PROXY"):
        named = [each for each in variables.get(name, "").split(",") if each]
        found[name] = ",".join([*named, *([] if _LOOPBACK in named else [_LOOPBACK])])
    return found


def _without_searches(config: AgentConfig) -> AgentConfig:
    if "web" in config.features:
        return config
    tools = [tool for tool in config.tools if tool.partition("(")[0].strip() != "WebSearch"]
    return config.model_copy(update={"tools": tools})
