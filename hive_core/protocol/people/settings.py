"""The settings `accounts`: how long people stay signed in."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class AccountSettings(BaseModel):
    """The settings `accounts`: the ends of sessions and of API tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    idle_hours: Annotated[
        float, Field(gt=0, le=24 * 365, description="Hours without a request after which a session ends.")
    ] = 12.0
    session_days: Annotated[float, Field(gt=0, le=365, description="Days after which a session ends in any case.")] = (
        7.0
    )
    token_days: Annotated[
        float, Field(gt=0, le=365, description="Days after which an API token ends that was made without an end.")
    ] = 90.0
