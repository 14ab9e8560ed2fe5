"""The settings `egress`: what all sealed agents may reach, and the limits of their connections."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from hive_core.errors.faults import did_you_mean
from hive_core.protocol.network.named_sets import NAMED_SETS
from hive_core.protocol.network.policy import EgressLimits, Entry

MAX_HOSTS = 200
"""Most entries of a list in the settings, or in agent.toml."""
MAX_HOST_CHARACTERS = 7_000
"""Most characters of such a list. Those of the settings, of agent.toml and of the rules made while an agent runs
fit into one packet to the proxy together (`hive_core.protocol.network.policy`)."""


def _known(entry: object) -> object:
    """Refuse an unknown name of a set, with the one that was probably meant."""
    if isinstance(entry, str) and entry and not set(entry) & set(".:") and entry not in NAMED_SETS:
        near = did_you_mean(entry, list(NAMED_SETS))
        sets = ", ".join(sorted(NAMED_SETS))
        raise PydanticCustomError(
            "unknown_set", "it is no host and no set{near}; the sets are {sets}", {"near": near, "sets": sets}
        )
    return entry


def _fits(entries: list[str]) -> list[str]:
    if sum(map(len, entries)) > MAX_HOST_CHARACTERS:
        raise PydanticCustomError("too_long", "it has more than {most} characters", {"most": MAX_HOST_CHARACTERS})
    return entries


AllowedHost = Annotated[Entry, BeforeValidator(_known)]
"""A rule `host[:port]` or the name of a set, in its normal spelling."""
AllowedHosts = Annotated[list[AllowedHost], Field(max_length=MAX_HOSTS), AfterValidator(_fits)]


class EgressLimitSettings(EgressLimits):
    """The limits of the connections of each agent."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Egress(BaseModel):
    """What every sealed agent may reach through the proxy, beside what its own configuration names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow: Annotated[
        AllowedHosts, Field(description="Hosts that every sealed agent reaches: `host[:port]`, `*.host`, and sets.")
    ] = []
    deny: Annotated[
        AllowedHosts, Field(description="Hosts that none reaches, whatever else allows them; also when it is open.")
    ] = []
    encrypted_hello: Annotated[
        bool, Field(description="Whether TLS connections may hide the name of their host (encrypted client hello).")
    ] = False
    limits: Annotated[EgressLimitSettings, Field(description="Limits of the connections of each agent (a table).")] = (
        EgressLimitSettings()
    )
