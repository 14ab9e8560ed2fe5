"""Limits that a configuration asks for, held against the operator's ceilings."""

from __future__ import annotations

from typing import Any

import pytest

from hive_core.errors import HiveError
from hive_core.gate.intake.agent_toml import check_ceilings, parse_config
from hive_core.layout import Layout
from hive_core.protocol import ProposeRequest, SpawnProposal, SpawnRequest
from hive_core.settings import LimitCeilings
from tests.unit.core.gate.gate_hive import ADA, MANAGER, OPERATOR, GateHive, config, opened, quick

CEILINGS = LimitCeilings(memory_max="1G", tasks_max=100)


def asking(gate_hive: GateHive, text: str) -> ProposeRequest:
    """A commit of ada's with this in agent.toml."""
    sha = gate_hive.commit("ada", {"agent.toml": f'backend = "scripted"\n{text}\n'}, on=gate_hive.main("ada"))
    return ProposeRequest(commit=sha, note="more room")


async def refusal(asked: Any) -> HiveError:
    with pytest.raises(HiveError) as refused:
        await asked
    assert refused.value.code == "above_ceiling"
    return refused.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memory_max = '1025M'", ["memory_max: 1025M is above the operator's ceiling, 1G"]),
        ("\n\n  'memory_max' = \"2G\"", ["memory_max: 2G is above"]),
        ("tasks_max = 101\n# x\nmemory_max = '9G'", ["tasks_max: 101", "memory_max: 9G"]),
    ],
)
def test_each_limit_is_named(text: str, words: list[str]) -> None:
    """However it is written: the key, the value that it asks for, the ceiling."""
    with pytest.raises(HiveError) as refused:
        check_ceilings(parse_config(text.encode()), CEILINGS)
    for word in words:
        assert word in refused.value.message
    assert "ask for no more than" in refused.value.hint


@pytest.mark.parametrize("text", ["", "memory_max = '1024M'", "tasks_max = 100", "cpu_quota = 99999"])
def test_what_is_allowed_passes(text: str) -> None:
    """Nothing asked for, as much as the ceiling, or a limit without a ceiling."""
    check_ceilings(parse_config(text.encode()), CEILINGS)


async def test_a_proposal_above_a_ceiling_is_refused(layout: Layout) -> None:
    """At once, with the key; nothing is built. As much as the ceiling is taken."""
    async with opened(layout, quick(layout, ceilings=CEILINGS)) as gate_hive:
        error = await refusal(
            gate_hive.gate.config_submissions.propose(asking(gate_hive, "cpu_quota = 50\nmemory_max = '8G'"), ADA)
        )
        assert error.message == "memory_max: 8G is above the operator's ceiling, 1G"
        assert 'memory_max = "1G"' in error.hint
        assert [row.number for row in await gate_hive.rows("ada")] == [0]
        await gate_hive.gate.config_submissions.propose(asking(gate_hive, "memory_max = '1G'"), ADA)
        built = await gate_hive.until("ada", 1, "built")
        assert "memory_max: the default -> 1G" in built.settings


async def test_a_spawn_above_a_ceiling_is_refused(layout: Layout) -> None:
    """The operator's as well as the manager's: no agent, no repository, no proposal."""
    async with opened(layout, quick(layout, ceilings=CEILINGS)) as gate_hive:
        much = config(tasks_max=500)
        for asked in (
            gate_hive.gate.agent_submissions.spawn(SpawnRequest(name="zoe", config=much), OPERATOR),
            gate_hive.gate.agent_submissions.request_spawn(
                SpawnProposal(name="zoe", config=much, note="a helper"), MANAGER
            ),
        ):
            assert "tasks_max: 500 is above the operator's ceiling, 100" in (await refusal(asked)).message
        assert not gate_hive.hive.agents.exists("zoe")
        assert not layout.applied_repository("zoe").exists()
        assert await gate_hive.rows("zoe") == []


async def test_a_ceiling_that_is_lowered_breaks_nothing(layout: Layout) -> None:
    """What waits for its decision is deployed with the lower limit, and survives a start; new proposals are refused."""
    async with opened(layout) as scene:
        await scene.gate.config_submissions.propose(asking(scene, "memory_max = '6G'"), ADA)
        await scene.until("ada", 1, "built")
    lower = quick(layout, ceilings=CEILINGS)
    async with opened(layout, lower) as scene:
        await scene.approve("ada", 1)
        await scene.until("ada", 1, "deployed")
        assert scene.runtime.specs["ada"].limits.memory_max == "1G"
        await refusal(scene.gate.config_submissions.propose(asking(scene, "memory_max = '6G'\ncpu_quota = 50"), ADA))
        await scene.check()
    async with opened(layout, lower) as gate_hive:
        await gate_hive.settled()
        assert gate_hive.runtime.specs["ada"].limits.memory_max == "1G"
        assert gate_hive.hive.agents.record("ada").config.memory_max == "6G"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("githbu", "allowed_hosts[1]: 'githbu' is no host and no set, did you mean 'github'?"),
        ("*.com", "allowed_hosts[1]: the rule '*.com' has one label only"),
        ("10.0.0.1", "allowed_hosts[1]: the rule '10.0.0.1' is an address"),
        ("mail.example.org:25", "port 25"),
        ("", "allowed_hosts[1]: it is empty"),
    ],
)
def test_hosts_that_are_none(entry: str, words: str) -> None:
    """An allowed host that is no host and no set is refused by its place, with the set that was probably meant."""
    with pytest.raises(HiveError) as refused:
        parse_config(f'allowed_hosts = ["npm", "{entry}"]'.encode())
    assert refused.value.code == "bad_agent_toml"
    assert words in refused.value.message


def test_hosts_have_one_spelling() -> None:
    """What is stored, shown to reviewers and given to the proxy is the normal spelling of what was written."""
    assert parse_config(b'allowed_hosts = ["GitHub.COM.:22", "npm"]').allowed_hosts == ["github.com:22", "npm"]


def test_hosts_have_so_many_characters() -> None:
    """A list that would not fit into the packet to the proxy is refused."""
    long = ", ".join(f'"h{number}.{"x" * 60}.example.org"' for number in range(120))
    with pytest.raises(HiveError, match="allowed_hosts: it has more than 7,000 characters"):
        parse_config(f"allowed_hosts = [{long}]".encode())
