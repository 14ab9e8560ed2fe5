"""Rules that approve before anybody is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.gate.auto_approval import Change, matching_rule
from hive_core.protocol import AgentConfig
from hive_core.settings import AutoRule

PROMPT = AutoRule(name="prompt only", when="prompt_only")
LOWERED = AutoRule(name="less is fine", when="limits_lowered")
SAME = AgentConfig()
FULL = AgentConfig(memory_max="2G", cpu_quota=100, tasks_max=100, io_weight=100, turn_timeout=600.0)


def paths(*patterns: str) -> AutoRule:
    return AutoRule(name="docs", when="paths", paths=list(patterns))


def change(*changed: str, old: AgentConfig = SAME, new: AgentConfig = SAME) -> Change:
    return Change(changed, old, new)


def lowered(**fields: Any) -> str | None:
    return matching_rule([LOWERED], change("agent.toml", old=FULL, new=FULL.model_copy(update=fields)))


def test_off_by_default() -> None:
    """Without rules somebody is always asked."""
    assert matching_rule([], change("prompt.md")) is None


def test_prompt_only() -> None:
    """The rule approves a change of prompt.md and of nothing besides."""
    assert matching_rule([PROMPT], change("prompt.md")) == "prompt only"
    for changed in (["prompt.md", "agent.nix"], ["agent.nix"], ["docs/prompt.md"], ["PROMPT.md"], []):
        assert matching_rule([PROMPT], change(*changed)) is None


@pytest.mark.parametrize("rule", [PROMPT, paths("**")], ids=["prompt_only", "paths"])
def test_settings_never_pass_as_files(rule: AutoRule) -> None:
    """If the settings differ, rules about files do not approve, whatever the list of paths says."""
    assert matching_rule([rule], change("prompt.md", new=AgentConfig(backend="claude"))) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"memory_max": "1G"},
        {"memory_max": "1023M", "cpu_quota": 50},
        {"memory_max": "2048M"},
        {"tasks_max": 16},
        {"io_weight": 99},
        {"turn_timeout": 1.5},
    ],
)
def test_limits_lowered(fields: dict[str, Any]) -> None:
    """Limits that become lower, or are said in another unit, are approved."""
    assert lowered(**fields) == "less is fine"


@pytest.mark.parametrize(
    "fields",
    [
        {"memory_max": "3G"},
        {"memory_max": "2049M"},
        {"memory_max": None},
        {"cpu_quota": 101},
        {"tasks_max": None},
        {"io_weight": 101},
        {"network": "host"},
        {"nix_daemon": True},
        {"memory_max": "1G", "network": "host"},
        {"turn_timeout": 601.0},
        {"memory_max": "1G", "cpu_quota": 200},
        {"memory_max": "1G", "tools": ["Bash(*)"]},
        {"memory_max": "1G", "backend": "claude"},
        {},
    ],
)
def test_anything_else_in_the_settings_is_asked_about(fields: dict[str, Any]) -> None:
    """One raised or removed limit, another setting, or no change of limits at all: somebody is asked."""
    assert lowered(**fields) is None


def test_a_new_limit_is_asked_about() -> None:
    """A limit where there was none may be above the operator's default, so it is not taken for lower."""
    assert matching_rule([LOWERED], change("agent.toml", new=AgentConfig(memory_max="1M"))) is None


def test_lowered_limits_beside_another_file_are_asked_about() -> None:
    """Only agent.toml may have changed."""
    new = FULL.model_copy(update={"cpu_quota": 1})
    assert matching_rule([LOWERED], change("agent.toml", "agent.nix", old=FULL, new=new)) is None


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("docs/*", "docs/a.md", True),
        ("docs/*", "docs/a/b.md", False),
        ("docs/**", "docs/a/b.md", True),
        ("**/*.md", "README.md", True),
        ("**/*.md", "a/b/c.md", True),
        ("**", "agent.nix", True),
        ("**", "agent.toml", False),
        ("agent.*", "agent.toml", False),
        ("*.md", "docs/a.md", False),
        ("*.md", "A.MD", False),
        ("docs/?.md", "docs/ab.md", False),
        ("", "docs", False),
        ("docs", "docs/a", False),
        ("a/**/b/**/c", "a/b/x/c", True),
        ("a/**/b/**/c", "a/x/c", False),
    ],
)
def test_patterns(pattern: str, path: str, fits: bool) -> None:
    """A star stays within one part of a path, two stars do not, and agent.toml fits no pattern."""
    assert (matching_rule([paths(pattern)], change(path)) is not None) is fits


def test_every_path_has_to_be_listed() -> None:
    """One file that no pattern lists is enough to be asked."""
    rule = paths("docs/*", "notes/*")
    assert matching_rule([rule], change("docs/a", "notes/b")) == "docs"
    assert matching_rule([rule], change("docs/a", "agent.nix")) is None


def test_the_first_rule_that_fits_is_named() -> None:
    """The name that goes into the tag is that of the first rule that approves."""
    assert matching_rule([LOWERED, PROMPT, paths("**")], change("prompt.md")) == "prompt only"


@given(st.text("ab/*?[]!-", max_size=40), st.text("ab/", max_size=200))
def test_hostile_paths_cost_little(pattern: str, path: str) -> None:
    """Any pattern and path give an answer; none hangs."""
    matching_rule([paths(pattern, "**/a" * 20)], change(path * 20))
