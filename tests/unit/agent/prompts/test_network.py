"""The text that tells an agent of its network."""

from __future__ import annotations

from hive_agent.prompts.network import render_network
from hive_core.protocol import AgentConfig, AgentReach


def test_a_sealed_agent_is_told_what_it_reaches_and_how_to_ask() -> None:
    """It reads its hosts, with those of sets, that programs without the proxy fail, and the tool that asks for more."""
    text = render_network(AgentReach(sealed=True, hosts=["npm", "crates.io"]), AgentConfig(), "mcp__hive__")
    assert "You reach: `npm`, `crates.io` (`npm` stands for " in text
    assert "`Network is unreachable`" in text and "`mcp__hive__request_network`" in text and "`allowed_hosts`" in text
    assert "Nix" not in text
    assert "Nix daemon" in render_network(AgentReach(sealed=True), AgentConfig(nix_daemon=True), "")


def test_an_agent_without_rules_reaches_nothing() -> None:
    """That is said in so many words."""
    assert "You reach no host now." in render_network(AgentReach(sealed=True), AgentConfig(), "")


def test_many_hosts_are_counted() -> None:
    """A prompt names so many hosts, and says how many more there are."""
    hosts = [f"h{number}.example" for number in range(200)]
    text = render_network(AgentReach(sealed=True, hosts=hosts), AgentConfig(), "")
    assert "`h59.example` and 140 more." in text and "h60.example" not in text


def test_an_agent_with_the_hosts_network_is_told_so() -> None:
    """It reads that ports are the host's, and of no proxy; an older daemon says nothing of the network."""
    text = render_network(AgentReach(sealed=False), AgentConfig(network="host"), "")
    assert "network of the host" in text and "proxy" not in text
    assert render_network(None, AgentConfig(), "") == ""
