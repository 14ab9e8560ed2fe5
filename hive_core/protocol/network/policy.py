"""The reach of an agent, as the daemon tells it to the egress proxy."""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from hive_core.protocol.network.rules import BadRule, normal_entry
from hive_core.protocol.network.services import MAX_SERVICES, EgressService, ServiceName

MAX_ENTRIES = 500
"""Most entries of an allow-list or a list of denied hosts."""
MAX_ENTRY_CHARACTERS = 24 * 1024
"""Most characters of all entries of a list: what the daemon tells of an agent is one packet of 64 KiB."""

MAX_ENDS = 100
"""Most entries of a list that end: those made for an agent while it runs, and those made for all."""


def _entry(text: str) -> str:
    try:
        return normal_entry(text)
    except BadRule as why:
        raise PydanticCustomError("bad_rule", "{why}", {"why": str(why)}) from None


def _entries(entries: list[str]) -> list[str]:
    if sum(map(len, entries)) > MAX_ENTRY_CHARACTERS:
        raise PydanticCustomError("too_long", "it has more than {most} characters", {"most": MAX_ENTRY_CHARACTERS})
    return entries


Entry = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_entry)]
"""A rule or the name of a set, in its normal spelling."""
Entries = Annotated[list[Entry], Field(max_length=MAX_ENTRIES), AfterValidator(_entries)]
Ends = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MAX_ENDS)]
"""Ends of rules, by the clock of `since_boot`."""


def since_boot() -> int:
    """Return the milliseconds since the boot of the host.

    The daemon and the proxy have this clock in common, nobody sets it, and it goes on while the host sleeps.
    """
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class EgressLimits(BaseModel):
    """Limits of the connections of one agent through the proxy."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    connections: Annotated[int, Field(ge=1, le=10_000, description="Connections of an agent at a time.")] = 256
    connections_per_second: Annotated[
        int, Field(ge=1, le=10_000, description="New connections of an agent in a second; further ones wait.")
    ] = 100
    bytes_per_day: Annotated[
        int | None, Field(ge=1, description="Bytes that an agent may send and receive on a day (UTC); none if unset.")
    ] = None
    idle_seconds: Annotated[
        float, Field(gt=0, le=604_800, description="Seconds without a byte after which a connection ends.")
    ] = 600.0
    total_seconds: Annotated[float, Field(gt=0, le=2_592_000, description="Seconds that a connection may last.")] = (
        86_400.0
    )


class EgressPolicy(BaseModel):
    """The reach of one agent: an entry of `deny` wins over those of `allow` and over `open`.

    `open` lets every public host through, with every port but that of mail. `encrypted_hello` lets the TLS extension
    `encrypted_client_hello` through, with which a client can hide the name of the host from the proxy.

    `allow_ends` are the ends of the last entries of `allow`, in their order, and `deny_ends` those of `deny`; the
    entries before them have no end. The proxy ends them by itself, also while the daemon is away.

    `services` are those of the host that the agent reaches by name, for which no rule holds.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    allow: Entries = []
    allow_ends: Ends = []
    deny: Entries = []
    deny_ends: Ends = []
    open: bool = False
    open_end: Annotated[int, Field(ge=0)] | None = None
    encrypted_hello: bool = False
    limits: EgressLimits = EgressLimits()
    services: Annotated[dict[ServiceName, EgressService], Field(max_length=MAX_SERVICES)] = {}

    @model_validator(mode="after")
    def _has_entries_for_its_ends(self) -> EgressPolicy:
        if len(self.allow_ends) > len(self.allow) or len(self.deny_ends) > len(self.deny):
            raise PydanticCustomError("bad_ends", "there are more ends than entries")
        return self
