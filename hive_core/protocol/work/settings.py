"""The settings `repositories`: the traffic with upstreams of repositories."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from hive_core.errors.faults import in_words
from hive_core.protocol.config.limits import MemorySize


class RepositorySettings(BaseModel):
    """Settings of the traffic with upstreams of repositories."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fetch_minutes: Annotated[
        float,
        Field(ge=0, le=525_600, description="Minutes between two fetches of a repository; 0 fetches on request only."),
    ] = 15.0
    transfer_seconds: Annotated[
        float, Field(gt=0, le=604_800, description="Seconds that a transfer may take, and then its check.")
    ] = 3_600.0
    transfer_bytes: Annotated[MemorySize, Field(description="Most that a transfer brings in, in MiB or GiB.")] = "16G"
    refs: Annotated[int, Field(ge=1, le=1_000_000, description="Most branches and tags that an upstream may have.")] = (
        100_000
    )
    github_client_id: Annotated[
        str,
        Field(
            max_length=100,
            pattern=r"^[A-Za-z0-9._-]*$",
            description="Client id of a GitHub app with device flow, for `repo add --login` without `gh`.",
        ),
        in_words("it must have letters, digits, `.`, `_` and `-`"),
    ] = ""
