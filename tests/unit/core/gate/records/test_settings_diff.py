"""Changes of agent.toml, described under their keys."""

from __future__ import annotations

from typing import Any

import pytest

from hive_core.gate.records.settings_diff import describe_changes
from hive_core.protocol import AgentConfig
from hive_core.protocol.config.agent_config import McpServer, ScriptRule
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.network.named_sets import NAMED_SETS

OTHER: dict[str, Any] = {
    "backend": "claude",
    "model": "opus",
    "effort": "high",
    "provider": "vendor",
    "features": ["web"],
    "budget": SpendingLimits(money_per_day=5.0, calls_total=100),
    "tools": ["Read"],
    "allowed_recipients": ["bob"],
    "memory_max": "3G",
    "disk_max": "20G",
    "cpu_quota": 200,
    "tasks_max": 64,
    "io_weight": 50,
    "network": "host",
    "allowed_hosts": ["github.com:22"],
    "repos": ["web"],
    "nix_daemon": True,
    "turn_timeout": 600.0,
    "max_steps": 50,
    "idle_timeout": 0.0,
    "binary_files": ["assets/*.png"],
    "binds": ["data"],
    "devices": ["kvm"],
    "services": ["postgres"],
    "secrets": ["NPM_TOKEN"],
    "environment": ["GH_TOKEN", "AWS_*"],
    "mcp_servers": {"notes": McpServer(command="notes", args=["--dir", "a b"], env={"KEY": "x"})},
    "script": [ScriptRule(match="hello")],
}


def told(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return describe_changes(AgentConfig(**old), AgentConfig(**new))


@pytest.mark.parametrize("field", list(AgentConfig.model_fields))
def test_every_field_has_words(field: str) -> None:
    """No setting changes without a line that says so: in both directions, and one line for one change."""
    assert field in OTHER, f"say here what {field} could be changed to"
    here: dict[str, Any] = {}
    there = {field: OTHER[field]}
    if field == "features":  # They are those of a provider.
        here, there = {"provider": "vendor"}, {"provider": "vendor", **there}
    assert len(told(here, there)) >= 1
    assert len(told(there, here)) >= 1
    assert told(here, there) != told(there, here)


def test_no_change_no_words() -> None:
    """The same settings give nothing to read."""
    assert told(OTHER, OTHER) == []


def test_all_changes_are_told_together() -> None:
    """Changes of several settings are told one by one: first what leads out of the sandbox, then by their order."""
    assert told({"tools": ["Bash"], "memory_max": "1G"}, {**OTHER, "tools": ["Bash", "Bash(git *)"]}) == [
        "network: sealed -> host (the whole network of the host: services on its loopback, the cloud's metadata "
        "service, the internet)",
        "nix_daemon: false -> true (the host's Nix daemon, and so the whole network and the host's disk)",
        "backend: scripted -> claude",
        "model: the default -> opus",
        "effort: the default -> high",
        "provider: none -> vendor",
        "features: added web",
        "features: with each of them a call of the model reaches beyond the call, or costs more",
        "budget.money_per_day: the default -> 5",
        "budget.calls_total: the default -> 100",
        "tools: added Bash(git *)",
        "allowed_recipients: was everyone",
        "allowed_recipients: now bob",
        "memory_max: 1G -> 3G (raised)",
        "disk_max: the default -> 20G",
        "cpu_quota: the default -> 200",
        "tasks_max: the default -> 64",
        "io_weight: the default -> 50",
        "allowed_hosts: added github.com:22",
        "allowed_hosts: it reaches each of them, and can send them all that it knows",
        "repos: added web",
        "repos: it sees each of them whole, with its history, and may submit work for it",
        "turn_timeout: 3600 -> 600 (lowered)",
        "max_steps: 200 -> 50 (lowered)",
        "idle_timeout: 300 -> 0 (lowered)",
        "binary_files: added assets/*.png",
        "binds: added data",
        "devices: added kvm",
        "services: added postgres",
        "secrets: added NPM_TOKEN",
        "environment: added GH_TOKEN, AWS_*",
        "mcp_servers.notes: added notes --dir 'a b' (with KEY set)",
        "script: added 1 rule",
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"tools": ["Bash"]}, {"tools": ["Read"]}, ["tools: added Read", "tools: removed Bash"]),
        ({"tools": ["Bash", "Read"]}, {"tools": ["Read", "Bash"]}, ["tools: the same in another order or number"]),
        (
            {"allowed_recipients": ["operator"]},
            {"allowed_recipients": ["bob", "*"]},
            ["allowed_recipients: added bob, *", "allowed_recipients: removed operator"],
        ),
        ({"allowed_recipients": []}, {}, ["allowed_recipients: was none", "allowed_recipients: now everyone"]),
        ({"allowed_recipients": ["bob"]}, {"allowed_recipients": []}, ["allowed_recipients: removed bob"]),
        ({"memory_max": "1G"}, {"memory_max": "512M"}, ["memory_max: 1G -> 512M (lowered)"]),
        ({"memory_max": "2G"}, {"memory_max": "10000M"}, ["memory_max: 2G -> 10000M (raised)"]),
        ({"memory_max": "1G"}, {"memory_max": "1024M"}, ["memory_max: 1G -> 1024M (the same)"]),
        ({"cpu_quota": 50}, {}, ["cpu_quota: 50 -> the default"]),
        ({"turn_timeout": 1.0}, {"turn_timeout": 1.5}, ["turn_timeout: 1 -> 1.5 (raised)"]),
        ({"allowed_recipients": ["*"]}, {}, ["allowed_recipients: was *", "allowed_recipients: now everyone"]),
        ({"model": "9G"}, {"model": "8M"}, ["model: 9G -> 8M"]),
        (
            {"mcp_servers": {"a": McpServer(command="a"), "b": McpServer(command="b")}},
            {"mcp_servers": {"a": McpServer(url="https://a.example/"), "c": McpServer(command="c")}},
            ["mcp_servers.a: changed to https://a.example/", "mcp_servers.c: added c", "mcp_servers.b: removed"],
        ),
        (
            {"script": [ScriptRule(match="a"), ScriptRule(match="b")]},
            {"script": [ScriptRule(match="b"), ScriptRule(match="c"), ScriptRule(match="d")]},
            ["script: added 2 rules", "script: removed 1 rule"],
        ),
        (
            {"script": [ScriptRule(match="a"), ScriptRule(match="b")]},
            {"script": [ScriptRule(match="b"), ScriptRule(match="a")]},
            ["script: the same in another order or number"],
        ),
    ],
)
def test_words(old: dict[str, Any], new: dict[str, Any], words: list[str]) -> None:
    """What a person wants to know: more or less of what, from what to what."""
    assert told(old, new) == words


def test_a_new_agent_is_described() -> None:
    """Without an old configuration every setting is told, those that are not set included."""
    assert describe_changes(None, AgentConfig(allowed_recipients=["hm1nd"], memory_max="1G")) == [
        "network: sealed",
        "nix_daemon: false",
        "backend: scripted",
        "model: the default",
        "effort: the default",
        "provider: none",
        "features: none",
        "budget: the default",
        "tools: Bash, Read, Write, Edit, Glob, Grep",
        "allowed_recipients: hm1nd",
        "memory_max: 1G",
        "disk_max: the default",
        "cpu_quota: the default",
        "tasks_max: the default",
        "io_weight: the default",
        "allowed_hosts: none",
        "repos: none",
        "turn_timeout: 3600",
        "max_steps: 200",
        "idle_timeout: 300",
        "binary_files: none",
        "binds: none",
        "devices: none",
        "services: none",
        "secrets: none",
        "environment: none",
        "mcp_servers: none",
        "script: none",
    ]


def test_every_field_of_a_new_agent_has_words() -> None:
    """A field that a new agent sets is told."""
    for field, value in OTHER.items():
        given: dict[str, Any] = {"provider": "vendor"} if field == "features" else {}
        bare = describe_changes(None, AgentConfig(**given))
        assert describe_changes(None, AgentConfig(**given, **{field: value})) != bare, field


def test_long_lists_are_counted() -> None:
    """A thousand names are not read by anybody: the first are told, and how many more there are."""
    lines = told({"allowed_recipients": []}, {"allowed_recipients": [f"a{number}" for number in range(1_000)]})
    assert lines[0].startswith("allowed_recipients: added a0, a1, ")
    assert lines[-1] == "allowed_recipients: added 900 more"
    assert max(map(len, lines)) < 300 and len(lines) < 10


def test_no_tool_is_pushed_out_of_sight() -> None:
    """However long the names of other tools are, each is told, on lines so short that none is cut."""
    tools = [f"Bash({'x' * 190}{number})" for number in range(99)]
    lines = told({"tools": []}, {"tools": [*tools, "Bash(rm *)"]})
    assert all(any(tool in line for line in lines) for tool in [*tools, "Bash(rm *)"])
    assert max(map(len, lines)) < 300


def test_sets_of_hosts_are_written_out() -> None:
    """A reviewer sees which hosts the added sets stand for, and those of sets that were there before not again."""
    lines = told({"allowed_hosts": ["npm"]}, {"allowed_hosts": ["npm", "github", "crates.io"]})
    assert lines[:2] == [
        "allowed_hosts: added github, crates.io",
        "allowed_hosts: it reaches each of them, and can send them all that it knows",
    ]
    assert all(line.startswith("allowed_hosts: github stands for ") for line in lines[2:])
    written = [host for line in lines[2:] for host in line.partition(" stands for ")[2].split(", ")]
    assert written == list(NAMED_SETS["github"])


def test_no_long_setting_hides_the_hosts_network() -> None:
    """The whole network comes first, whatever lists an agent makes long, and a message shows the first lines."""
    lines = told({}, {"network": "host", "tools": [f"{number:0200}" for number in range(100)]})
    assert lines[0].startswith("network: sealed -> host (the whole network of the host") and len(lines) > 40
