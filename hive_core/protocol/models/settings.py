"""The settings `relay`: providers of models, and the directory with their keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from hive_core.protocol.models.providers import ProviderSettings
from hive_core.protocol.models.vendors import ProviderName


class RelaySettings(BaseModel):
    """The settings `relay`: the providers that agents may use, and the directory with their keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    providers: Annotated[
        dict[ProviderName, ProviderSettings],
        Field(max_length=50, description="Providers of models, by the name that agent.toml uses (a table)."),
    ] = {}
    credentials: Annotated[
        Path | None,
        Field(description="Directory with the providers' keys, one file each, for the relay that the daemon starts."),
    ] = None

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if self.credentials is not None and not self.credentials.is_absolute():
            raise PydanticCustomError("relative", "`credentials` must be a path that begins with /")
        return self
