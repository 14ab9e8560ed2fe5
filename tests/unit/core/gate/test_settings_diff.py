"""Changes of agent.toml in words."""

from __future__ import annotations

from typing import Any

import pytest

from hive_core.gate.settings_diff import describe_changes
from hive_core.protocol import AgentConfig
from hive_core.protocol.agent_config import McpServer, ScriptRule

OTHER: dict[str, Any] = {
    "backend": "claude",
    "model": "opus",
    "effort": "high",
    "tools": ["Read"],
    "allowed_recipients": ["bob"],
    "memory_max": "3G",
    "cpu_quota": 200,
    "tasks_max": 64,
    "io_weight": 50,
    "network": "sealed",
    "turn_timeout": 600.0,
    "max_steps": 50,
    "idle_timeout": 0.0,
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
    assert len(told(here, there)) >= 1
    assert len(told(there, here)) >= 1
    assert told(here, there) != told(there, here)


def test_no_change_no_words() -> None:
    """The same settings give nothing to read."""
    assert told(OTHER, OTHER) == []


def test_all_changes_are_told_together() -> None:
    """Changes of several settings are told one by one, in the order of the settings."""
    assert told({"tools": ["Bash"], "memory_max": "1G"}, {**OTHER, "tools": ["Bash", "Bash(git *)"]}) == [
        "backend: scripted -> claude",
        "model: the default -> opus",
        "effort: the default -> high",
        "tools added: Bash(git *)",
        "may send to: everyone -> only bob",
        "memory limit: raised from 1 GiB to 3 GiB",
        "CPU limit: set to 200 % of one core, was the operator's default",
        "limit of processes: set to 64, was the operator's default",
        "share of the disk: set to 50 (100 is everybody's), was the operator's default",
        "network: the host's -> none but the hive's socket",
        "turn time limit: lowered from 3600 s to 600 s",
        "limit of model calls in a turn: lowered from 200 to 50",
        "time that an idle session is kept: lowered from 300 s to 0 s",
        "now also gets the variables: GH_TOKEN, AWS_*",
        "MCP server notes added: notes --dir 'a b' (with KEY set)",
        "script: 1 rule added",
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"tools": ["Bash"]}, {"tools": ["Read"]}, ["tools added: Read", "tools removed: Bash"]),
        ({"tools": ["Bash", "Read"]}, {"tools": ["Read", "Bash"]}, ["tools: the same in another order or number"]),
        (
            {"allowed_recipients": ["operator"]},
            {"allowed_recipients": ["bob", "*"]},
            ["may now also send to: bob, * (all at once)", "may no longer send to: operator"],
        ),
        ({"allowed_recipients": []}, {}, ["could send to: nobody", "may now send to: everyone"]),
        ({"allowed_recipients": ["bob"]}, {"allowed_recipients": []}, ["may no longer send to: bob"]),
        ({"memory_max": "1G"}, {"memory_max": "512M"}, ["memory limit: lowered from 1 GiB to 512 MiB"]),
        ({"memory_max": "2G"}, {"memory_max": "10000M"}, ["memory limit: raised from 2 GiB to 10000 MiB"]),
        ({"memory_max": "1G"}, {"memory_max": "1024M"}, ["memory limit: 1 GiB -> 1024 MiB, the same in another unit"]),
        ({"cpu_quota": 50}, {}, ["CPU limit: removed, was 50 % of one core, now the operator's default"]),
        ({"turn_timeout": 1.0}, {"turn_timeout": 1.5}, ["turn time limit: raised from 1 s to 1.5 s"]),
        (
            {"script": [ScriptRule(match="a"), ScriptRule(match="b")]},
            {"script": [ScriptRule(match="b"), ScriptRule(match="c"), ScriptRule(match="d")]},
            ["script: 2 rules added, 1 rule removed"],
        ),
        (
            {"script": [ScriptRule(match="a"), ScriptRule(match="b")]},
            {"script": [ScriptRule(match="b"), ScriptRule(match="a")]},
            ["script: the same rules in another order or number"],
        ),
    ],
)
def test_words(old: dict[str, Any], new: dict[str, Any], words: list[str]) -> None:
    """What a person wants to know: more or less of what, from what to what."""
    assert told(old, new) == words


def test_a_new_agent_is_described() -> None:
    """Without an old configuration everything that is set is told, defaults that matter included."""
    assert describe_changes(None, AgentConfig(allowed_recipients=["hm1nd"], memory_max="1G")) == [
        "backend: scripted",
        "tools: Bash, Read, Write, Edit",
        "may send to: only hm1nd",
        "memory limit: 1 GiB",
        "CPU limit: the operator's default",
        "limit of processes: the operator's default",
        "share of the disk: the operator's default",
        "network: the host's",
        "turn time limit: 3600 s",
        "limit of model calls in a turn: 200",
        "time that an idle session is kept: 300 s",
    ]


def test_every_field_of_a_new_agent_has_words() -> None:
    """A field that a new agent sets is told."""
    for field, value in OTHER.items():
        assert describe_changes(None, AgentConfig(**{field: value})) != describe_changes(None, AgentConfig()), field


def test_long_lists_are_counted() -> None:
    """A thousand names are not read by anybody: the first are told, and how many more there are."""
    lines = told({"allowed_recipients": []}, {"allowed_recipients": [f"a{number}" for number in range(1_000)]})
    assert lines[0].startswith("may now also send to: a0, a1, ")
    assert lines[-1] == "may now also send to: 900 more"
    assert max(map(len, lines)) < 300 and len(lines) < 10


def test_no_tool_is_pushed_out_of_sight() -> None:
    """However long the names of other tools are, each is told, on lines so short that none is cut."""
    tools = [f"Bash({'x' * 190}{number})" for number in range(99)]
    lines = told({"tools": []}, {"tools": [*tools, "Bash(rm *)"]})
    assert all(any(tool in line for line in lines) for tool in [*tools, "Bash(rm *)"])
    assert max(map(len, lines)) < 300
