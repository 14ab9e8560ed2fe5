"""Settings in agent.toml that are probably mistakes."""

from __future__ import annotations

import pytest

from hive_core.gate.intake.unknown_names import describe_unknown
from hive_core.protocol import AgentConfig

SEALED = "network: it is sealed, and no host of its model's vendor is allowed: name a provider, or"
UNKNOWN = [
    (AgentConfig(tools=["Bsh"]), ["tools: no tool Bsh is known, did you mean 'Bash'?"]),
    (AgentConfig(tools=["bash(git *)"]), ["tools: no tool bash is known, did you mean 'Bash'?"]),
    (AgentConfig(tools=["Frobnicate"]), ["tools: no tool Frobnicate is known"]),
    (
        AgentConfig(allowed_recipients=["nobody"]),
        ["allowed_recipients: there is no agent nobody now"],
    ),
    (
        AgentConfig(allowed_recipients=["aad"]),
        ["allowed_recipients: there is no agent aad now, did you mean 'ada'?"],
    ),
    (
        AgentConfig(backend="claude", network="host", model="sonet"),
        ["model: no model sonet is known, did you mean 'sonnet'?"],
    ),
    (AgentConfig(backend="claude"), [f"{SEALED} anthropic in allowed_hosts"]),
    (AgentConfig(backend="codex", allowed_hosts=["npm", "anthropic"]), [f"{SEALED} openai in allowed_hosts"]),
]
KNOWN = [
    AgentConfig(),
    AgentConfig(tools=["Bash(git *)", "Read", "mcp__files__read", "WebSearch"]),
    AgentConfig(allowed_recipients=["ada", "hm1nd", "operator", "*"]),
    AgentConfig(backend="claude", network="host", model="claude-opus-4-1-20250805"),
    AgentConfig(backend="claude", network="host", model="sonnet"),
    AgentConfig(backend="codex", network="host", model="sonet"),
    AgentConfig(backend="codex", allowed_hosts=["openai"]),
    AgentConfig(backend="claude", allowed_hosts=["*.anthropic.com"]),
    AgentConfig(backend="claude", provider="main"),
    AgentConfig(backend="opencode"),
]


@pytest.mark.parametrize(("config", "expected"), UNKNOWN, ids=range(len(UNKNOWN)))
def test_what_is_told(config: AgentConfig, expected: list[str]) -> None:
    """A name that nobody knows is told under its key, with the one that was probably meant."""
    assert describe_unknown(config, ["ada", "bob"]) == expected


@pytest.mark.parametrize("config", KNOWN, ids=range(len(KNOWN)))
def test_what_is_not(config: AgentConfig) -> None:
    """Patterns, tools of MCP servers, full names of models and the hive's own names are no mistakes."""
    assert describe_unknown(config, ["ada", "bob"]) == []


def test_what_all_agents_reach_counts() -> None:
    """Nothing is told of an agent whose vendor the operator allows to everybody."""
    assert describe_unknown(AgentConfig(backend="gemini"), [], ["google"]) == []
    assert describe_unknown(AgentConfig(backend="gemini"), [], ["npm"]) != []
