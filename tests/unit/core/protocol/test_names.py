"""Which names agents may have."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.protocol.names import MANAGER, container_name, is_agent_name, why_not


@pytest.mark.parametrize(
    "name",
    ["", "..", ".", "a/b", "HM1ND", "hm1nd", "operator", "system", "all", "*", "abcdefghij", "1a", "a-b", "a_b", "a b",
     "\u0430", "ab\u0131", "a\n", "a\x00", "\uff41", "\u00e9", "a\u0661"],
)  # fmt: skip
def test_bad_names_are_refused_in_words(name: str) -> None:
    """What is no name is refused, and the reason is printable ASCII whatever the name holds."""
    assert not is_agent_name(name)
    assert why_not(name).isascii() and why_not(name).isprintable()


@given(st.text(max_size=12))
def test_only_the_alphabet_of_containers_passes(name: str) -> None:
    """A legal name has 1 to 9 characters a-z and 0-9, starts with a letter, and fits nixos-container's 11."""
    if is_agent_name(name):
        assert re.fullmatch("[a-z][a-z0-9]{0,8}", name, re.ASCII)
        assert len(container_name(name)) <= 11


def test_the_managers_container_has_its_own_name() -> None:
    """Agents live in h-<name>, the manager in hm1nd."""
    assert (container_name("bob"), container_name(MANAGER)) == ("h-bob", "hm1nd")
