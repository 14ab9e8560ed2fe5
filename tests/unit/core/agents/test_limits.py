"""How limits come together: what is asked for, the operator's defaults, the ceilings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.agents.limits import KEYS, Allowance, excesses
from hive_core.errors import HiveError
from hive_core.protocol import AgentConfig, Limits, memory_bytes
from hive_core.settings import Bounds

SIZES = st.builds("{}{}".format, st.integers(1, 5_000), st.sampled_from("MG"))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "memory_max": st.none() | SIZES,
    "cpu_quota": st.none() | st.integers(1, 1_000),
    "tasks_max": st.none() | st.integers(16, 1_000),
    "io_weight": st.none() | st.integers(1, 1_000),
}
SOME = st.fixed_dictionaries(VALUES)


def effective(config: dict[str, Any], defaults: dict[str, Any], ceilings: dict[str, Any]) -> dict[str, Any]:
    allowance = Allowance(Bounds(**defaults), Bounds(**ceilings))
    return allowance.effective(AgentConfig(**config)).model_dump(exclude_none=True)


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
    refused = {each.key for each in excesses(AgentConfig(**config), Bounds(**ceilings))}
    assert refused == {key for key in KEYS if config[key] is not None and lowered[key] != config[key]}


def test_every_limit_above_its_ceiling_is_named() -> None:
    """One refusal tells all of them, with the ceilings, and what to ask for instead."""
    allowance = Allowance(ceilings=Bounds(memory_max="1G", cpu_quota=100, tasks_max=64))
    with pytest.raises(HiveError) as refusal:
        allowance.check(Limits(memory_max="2G", cpu_quota=101, tasks_max=64))
    assert refusal.value.code == "above_ceiling"
    assert "memory_max: 2G is above the operator's ceiling, 1G" in refusal.value.message
    assert "cpu_quota: 101 is above the operator's ceiling, 100" in refusal.value.message
    assert "tasks_max" not in refusal.value.message
    assert 'no more than memory_max = "1G", cpu_quota = 100' in refusal.value.hint


def test_every_limit_is_a_key_of_all_tables() -> None:
    """What an agent may ask for, the operator can set a default and a ceiling for."""
    assert set(KEYS) == set(Bounds.model_fields)
    assert set(KEYS) <= set(AgentConfig.model_fields)


def number(limit: Any) -> int:
    return memory_bytes(limit) if isinstance(limit, str) else int(limit)
