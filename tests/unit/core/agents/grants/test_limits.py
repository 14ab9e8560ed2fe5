"""How limits come together: what is asked for, the operator's defaults, the ceilings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.agents.grants.limits import KEYS, LimitPolicy, excesses
from hive_core.errors import HiveError
from hive_core.infra.database import audit
from hive_core.layout import Layout
from hive_core.protocol import AgentConfig, AuditRow, Limits, LimitsRequest, memory_bytes
from hive_core.settings import LimitCeilings
from tests.unit.core.agents.builders import AgentHive, FakeProcesses, in_force, opened

SIZES = st.builds("{}{}".format, st.integers(1, 5_000), st.sampled_from("MG"))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "memory_max": st.none() | SIZES,
    "disk_max": st.none() | SIZES,
    "cpu_quota": st.none() | st.integers(1, 1_000),
    "tasks_max": st.none() | st.integers(16, 1_000),
    "io_weight": st.none() | st.integers(1, 1_000),
}
SOME = st.fixed_dictionaries(VALUES)


def effective(config: dict[str, Any], defaults: dict[str, Any], ceilings: dict[str, Any]) -> dict[str, Any]:
    limit_policy = LimitPolicy(LimitCeilings(**defaults), LimitCeilings(**ceilings))
    return limit_policy.effective(AgentConfig(**config)).model_dump(exclude_none=True)


@pytest.mark.parametrize(
    ("config", "defaults", "ceilings", "holds"),
    [
        ({}, {}, {}, {}),
        ({"memory_max": "1G"}, {"memory_max": "2G"}, {}, {"memory_max": "1G"}),
        ({"memory_max": "3G"}, {"memory_max": "2G"}, {}, {"memory_max": "3G"}),
        ({}, {"cpu_quota": 50}, {}, {"cpu_quota": 50}),
        ({"tasks_max": 900}, {}, {"tasks_max": 100}, {"tasks_max": 100}),
        ({}, {"tasks_max": 900}, {"tasks_max": 100}, {"tasks_max": 100}),
        ({}, {}, {"tasks_max": 100}, {"tasks_max": 100}),
        ({"memory_max": "1024M"}, {}, {"memory_max": "1G"}, {"memory_max": "1024M"}),
        ({"memory_max": "1025M"}, {}, {"memory_max": "1G"}, {"memory_max": "1G"}),
        ({"memory_max": "9M"}, {}, {"memory_max": "1G"}, {"memory_max": "9M"}),
        ({}, {}, {"io_weight": 200}, {}),
        ({}, {}, {"io_weight": 50}, {"io_weight": 50}),
        ({"io_weight": 500}, {}, {"io_weight": 200}, {"io_weight": 200}),
    ],
)
def test_what_holds(
    config: dict[str, Any], defaults: dict[str, Any], ceilings: dict[str, Any], holds: dict[str, Any]
) -> None:
    """The agent's own wins over the default, the ceiling over both; without a weight an agent has everybody's."""
    assert effective(config, defaults, ceilings) == holds


@given(config=SOME, defaults=SOME, ceilings=SOME)
def test_nothing_gets_past_a_ceiling(
    config: dict[str, Any], defaults: dict[str, Any], ceilings: dict[str, Any]
) -> None:
    """Whatever is asked for: nothing above a ceiling, a limit wherever a ceiling is, what is asked for if it may be."""
    holds = effective(config, defaults, ceilings)
    for key in KEYS:
        value, ceiling, asked = holds.get(key), ceilings[key], config[key]
        if ceiling is not None:
            usual = 100 if key == "io_weight" else None
            assert (value or usual) is not None and number(value or usual) <= number(ceiling)
        if asked is not None and (ceiling is None or number(asked) <= number(ceiling)):
            assert value == asked


@given(config=SOME, ceilings=SOME)
def test_what_is_refused_is_what_would_be_lowered(config: dict[str, Any], ceilings: dict[str, Any]) -> None:
    """The check at intake and what holds at the start agree on every limit that is asked for."""
    lowered = effective(config, {}, ceilings)
    refused = {each.key for each in excesses(AgentConfig(**config), LimitCeilings(**ceilings))}
    assert refused == {key for key in KEYS if config[key] is not None and lowered[key] != config[key]}


def test_every_limit_above_its_ceiling_is_named() -> None:
    """One refusal tells all of them, with the ceilings, and what to ask for instead."""
    limit_policy = LimitPolicy(ceilings=LimitCeilings(memory_max="1G", cpu_quota=100, tasks_max=64))
    with pytest.raises(HiveError) as refusal:
        limit_policy.check(Limits(memory_max="2G", cpu_quota=101, tasks_max=64))
    assert refusal.value.code == "above_ceiling"
    assert "memory_max: 2G is above the operator's ceiling, 1G" in refusal.value.message
    assert "cpu_quota: 101 is above the operator's ceiling, 100" in refusal.value.message
    assert "tasks_max" not in refusal.value.message
    assert 'no more than memory_max = "1G", cpu_quota = 100' in refusal.value.hint


def test_every_limit_is_a_key_of_all_tables() -> None:
    """What an agent may ask for, the operator can set a default and a ceiling for."""
    assert set(KEYS) == set(LimitCeilings.model_fields)
    assert set(KEYS) <= set(AgentConfig.model_fields)


def number(limit: Any) -> int:
    return memory_bytes(limit) if isinstance(limit, str) else int(limit)


ALLOWANCE = LimitPolicy(LimitCeilings(memory_max="1G"), LimitCeilings(memory_max="4G", tasks_max=64))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "run")


async def changed(hive: AgentHive, **request: Any) -> Limits:
    answer = await hive.limits.change("bob", LimitsRequest(**request), "operator:alice")
    assert answer.in_force == hive.processes.limited["bob"]
    return answer.in_force


async def rows(hive: AgentHive) -> list[AuditRow]:
    found = await hive.database.read(lambda db: audit.rows(db, subject="bob"))
    return [row for row in found if row.action == "limits"]


async def refused(hive: AgentHive, name: str = "bob", **request: Any) -> str:
    with pytest.raises(HiveError) as refusal:
        await hive.limits.change(name, LimitsRequest(**request), "operator:alice")
    return refusal.value.code


async def test_an_agent_is_run_with_what_holds_for_it(layout: Layout) -> None:
    """The runtime is told the limits, whether the network is sealed, and the port of the web page."""
    async with opened(layout, limit_policy=ALLOWANCE) as hive:
        port = (await hive.spawn("bob", network="host")).web_port
        spec = hive.processes.specs["bob"]
        assert (spec.limits, spec.sealed, spec.web_port) == (Limits(memory_max="1G", tasks_max=64), False, port)
        await hive.deployments.deploy("bob", in_force(1, network="sealed", memory_max="2G", cpu_quota=50))
        spec = hive.processes.specs["bob"]
        sealed = (Limits(memory_max="2G", cpu_quota=50, tasks_max=64), True, 0)
        assert (spec.limits, spec.sealed, spec.web_port) == sealed


async def test_a_ceiling_that_is_lowered_holds_from_the_next_start_on(layout: Layout) -> None:
    """What was deployed before starts with no more than is allowed now, and its configuration stays what it is."""
    async with opened(layout, limit_policy=ALLOWANCE) as hive:
        await hive.spawn("bob")
        await hive.deployments.deploy("bob", in_force(1, memory_max="4G"))
    async with opened(layout, limit_policy=LimitPolicy(ceilings=LimitCeilings(memory_max="2G"))) as hive:
        await hive.lifecycle.start_wanted()
        assert hive.processes.specs["bob"].limits == Limits(memory_max="2G")
        assert hive.agents.record("bob").config.memory_max == "4G"


async def test_limits_are_shown(layout: Layout) -> None:
    """What is configured, in force and used stand beside each other."""
    async with opened(layout, limit_policy=ALLOWANCE) as hive:
        await hive.spawn("bob")
        await changed(hive, memory_max="3G")
        answer = await hive.limits.read("bob")
        assert (answer.name, answer.enforced) == ("bob", True)
        assert answer.configured == Limits(memory_max="1G", tasks_max=64)
        assert answer.in_force == Limits(memory_max="3G", tasks_max=64)
        assert answer.usage.tasks == 3


async def test_limits_are_changed_at_once(layout: Layout) -> None:
    """What is named changes, the rest stays as it is in force; a reset goes back to what is configured before that."""
    async with opened(layout, limit_policy=ALLOWANCE) as hive:
        await hive.spawn("bob")
        assert await changed(hive, memory_max="3G") == Limits(memory_max="3G", tasks_max=64)
        assert await changed(hive, cpu_quota=50) == Limits(memory_max="3G", cpu_quota=50, tasks_max=64)
        assert await changed(hive, reset=True, tasks_max=32) == Limits(memory_max="1G", tasks_max=32)
        assert hive.processes.starting == 0 and hive.processes.began.qsize() == 1


async def test_a_change_is_forgotten_with_the_next_start(layout: Layout) -> None:
    """Nothing remembers it: the agent starts with what is configured."""
    async with opened(layout, limit_policy=ALLOWANCE) as hive:
        await hive.spawn("bob")
        await changed(hive, memory_max="3G")
        await hive.lifecycle.restart("bob", "operator:alice")
        assert (await hive.limits.read("bob")).in_force == Limits(memory_max="1G", tasks_max=64)


async def test_a_change_is_written_down(layout: Layout) -> None:
    """The audit row tells who changed what from what; a refused change leaves none."""
    async with opened(layout, limit_policy=ALLOWANCE) as hive:
        await hive.spawn("bob")
        await changed(hive, memory_max="3G", tasks_max=64)
        assert await refused(hive, memory_max="5G") == "above_ceiling"
        (row,) = await rows(hive)
        assert (row.actor, row.outcome) == ("operator:alice", "ok")
        assert row.detail == {"changed": {"memory_max": ["1G", "3G"]}, "reset": False}


async def test_what_stays_is_kept_within_the_ceilings(layout: Layout) -> None:
    """An agent that was started under higher ceilings keeps no limit above them when another one is changed."""
    async with opened(layout, limit_policy=ALLOWANCE) as hive:
        await hive.spawn("bob")
        hive.processes.limited["bob"] = Limits(memory_max="64G")
        assert await changed(hive, cpu_quota=50) == Limits(memory_max="4G", cpu_quota=50, tasks_max=64)


async def test_what_cannot_be_changed_is_refused(layout: Layout) -> None:
    """Nothing named, an agent that is not there or does not run: a code for each, and nothing is put in force."""
    async with opened(layout, limit_policy=ALLOWANCE) as hive:
        await hive.spawn("bob")
        assert await refused(hive) == "invalid_request"
        assert await refused(hive, "zoe", reset=True) == "unknown_agent"
        assert await refused(hive, "../bob", reset=True) == "bad_name"
        await hive.lifecycle.stop("bob", "operator")
        assert await refused(hive, memory_max="2G") == "not_running"
        assert "bob" not in hive.processes.limited


async def test_a_runtime_that_cannot_limit_says_so(layout: Layout) -> None:
    """A change is refused and not written down; looking works, and tells that nothing is enforced."""
    processes = FakeProcesses(limiting=False)
    processes.held.set()
    async with opened(layout, processes, ALLOWANCE) as hive:
        await hive.spawn("bob")
        assert await refused(hive, memory_max="2G") == "limits_not_enforced"
        assert await rows(hive) == []
        assert (await hive.limits.read("bob")).enforced is False
