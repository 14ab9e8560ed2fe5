"""Hosts that agents may reach, as people write them: a rule, or the name of a set."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from hive_core.errors.faults import did_you_mean
from hive_core.protocol.network.named_sets import NAMED_SETS
from hive_core.protocol.network.rules import BadRule, normal_entry
from hive_core.text import shown

MAX_HOST_CHARACTERS = 7_000
"""Most characters of a list in the settings or in agent.toml. Those of both, and of the rules made while an agent runs,
fit into one packet to the proxy together (`hive_core.protocol.network.policy`)."""


def read_host(text: str) -> str:
    """Return a rule or the name of a set in its normal spelling.

    Raises BadRule; for an unknown name of a set with the one that was probably meant.
    """
    name = text.strip()
    if not set(name) & set(".:") and name not in NAMED_SETS:
        near, sets = did_you_mean(name, list(NAMED_SETS)), ", ".join(sorted(NAMED_SETS))
        raise BadRule(f"{shown(name)} is no host and no set{near}; the sets are {sets}")
    return normal_entry(name)


def is_usable(entry: str) -> bool:
    """Return True if an entry is one still: the sets and the list of public suffixes change with versions."""
    try:
        return normal_entry(entry) == entry
    except BadRule:
        return False


def _read(text: str) -> str:
    try:
        return read_host(text)
    except BadRule as why:
        raise PydanticCustomError("bad_rule", "{why}", {"why": str(why)}) from None


def _fits(entries: list[str]) -> list[str]:
    if sum(map(len, entries)) > MAX_HOST_CHARACTERS:
        raise PydanticCustomError("too_long", "it has more than {most} characters", {"most": MAX_HOST_CHARACTERS})
    return entries


AllowedHost = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_read)]
"""A rule `host[:port]` or the name of a set, in its normal spelling."""
AllowedHosts = Annotated[list[AllowedHost], Field(max_length=200), AfterValidator(_fits)]
