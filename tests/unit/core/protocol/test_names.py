"""Which names agents may have."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.gate.policy import Principal
from hive_core.gate.records.transitions import person
from hive_core.infra.git.names import is_ref
from hive_core.infra.systemd import bus
from hive_core.protocol.names import (
    ADDRESS_PATTERN,
    MANAGER,
    NAME_PATTERN,
    RECIPIENT_PATTERN,
    RESERVED,
    container_name,
    is_agent_name,
    why_not,
)
from hive_core.runtimes.nixos.containers.inspection import agent_of
from hive_core.runtimes.nixos.containers.inspection import unit_name as container_unit


@pytest.mark.parametrize(
    "name",
    ["", "..", ".", "a/b", "HM1ND", "hm1nd", "operator", "system", "all", "*", "abcdefghij", "1a",
     "-a", "a-", "a-b-", "abcdefgh-i", "a_b", "a b",
     "\u0430", "ab\u0131", "a\n", "a\x00", "\uff41", "\u00e9", "a\u0661"],
)  # fmt: skip
def test_bad_names_are_refused_in_words(name: str) -> None:
    """What is no name is refused, and the reason is printable ASCII whatever the name holds."""
    assert not is_agent_name(name)
    assert why_not(name).isascii() and why_not(name).isprintable()


@given(st.text(max_size=12))
def test_only_the_alphabet_of_containers_passes(name: str) -> None:
    """A legal name has 1 to 9 characters a-z, 0-9 and -, starts with a letter, and fits nixos-container's 11."""
    if is_agent_name(name):
        assert re.fullmatch("[a-z][a-z0-9-]{0,8}", name, re.ASCII) and not name.endswith("-")
        assert len(container_name(name)) <= 11


@given(st.from_regex(re.compile(NAME_PATTERN, re.ASCII), fullmatch=True))
def test_a_name_means_one_thing_everywhere(name: str) -> None:
    """A name goes unchanged through a unit of systemd, its D-Bus path, a ref of git and a recipient of a message."""
    unit = container_unit(container_name(name))
    assert agent_of(unit) == (None if name in RESERVED - {MANAGER} else name)
    assert bus.unit_name(bus.unit_path(unit)) == unit
    assert re.fullmatch(r"[a-zA-Z0-9-]{1,63}", container_name(name)) and container_name(name)[-1] != "-"
    assert is_ref(f"refs/agents/{name}")
    assert re.fullmatch(RECIPIENT_PATTERN, name) and re.fullmatch(ADDRESS_PATTERN, name)


@given(st.sets(st.from_regex(re.compile(NAME_PATTERN, re.ASCII), fullmatch=True), min_size=2, max_size=2))
def test_different_names_stay_different(names: set[str]) -> None:
    """Two agents never share a container, a unit, an object of the bus or the address of their tags."""
    one, other = sorted(names)
    assert container_name(one) != container_name(other)
    assert bus.unit_path(container_unit(container_name(one))) != bus.unit_path(container_unit(container_name(other)))
    assert person(Principal(one, "agent", one)).email != person(Principal(other, "agent", other)).email


def test_the_managers_container_has_its_own_name() -> None:
    """Agents live in h-<name>, the manager in hm1nd."""
    assert (container_name("bob"), container_name(MANAGER)) == ("h-bob", "hm1nd")
