"""Names of what an agent can be given of the host, and what the operator offers by them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from hive_core.errors.faults import in_words

BindName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$"),
    in_words("it must be a name of 1 to 32 of a-z, 0-9 and -, with a letter first"),
]
"""Name of a directory of the host that the operator offers."""
DeviceName = Literal["gpu", "kvm", "fuse"]
"""Devices of the host that the operator can offer."""

_KERNEL_DIRECTORIES = ("proc", "sys", "dev")


class OfferedBind(BaseModel):
    """A directory of this host that agents may ask for by its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[Path, Field(description="The directory, by its absolute path without links.")]
    writable: Annotated[bool, Field(description="Whether agents may write in it.")] = False

    @field_validator("path")
    @classmethod
    def _is_plain(cls, path: Path) -> Path:
        if not path.is_absolute() or ".." in path.parts:
            raise PydanticCustomError("bad_path", "it must be an absolute path without ..")
        if path == Path("/") or path.parts[1] in _KERNEL_DIRECTORIES:
            raise PydanticCustomError("bad_path", "it must not be / or lie in /proc, /sys or /dev")
        return path
