"""The settings `egress`: what all sealed agents may reach, and the limits of their connections."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from hive_core.protocol.network.entries import AllowedHosts
from hive_core.protocol.network.policy import EgressLimits


class EgressLimitSettings(EgressLimits):
    """The limits of the connections of each agent."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Egress(BaseModel):
    """The reach of every sealed agent through the proxy, beside what its own configuration names."""

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
