"""The settings of the web pages."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class DashboardSettings(BaseModel):
    """The settings of the web pages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: Annotated[
        str, Field(description="Group that may use `dashboard.sock` where it exists; else only the daemon's user.")
    ] = "hyperhive-web"
